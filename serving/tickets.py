"""Feedback tickets: signed proof that answers were issued to a person, checkable by any replica with the key.

A ticket is urlsafe base64 of `HMAC-SHA256(server key, "ticket" ‖ content) ‖ content`, content being a serialised
`heliotrope.v1.Ticket`. Nothing is stored: a restarted server accepts what the one before it issued.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from heliotrope.errors import PermissionDenied
from heliotrope.v1 import feedback_pb2
from serving.caller import Caller
from serving.reply_stream import Reply

MAC_BYTES = 32
MAX_TICKET = 16_384  # characters; a ticket names at most two answers and is well under 2,000


@dataclass(frozen=True)
class Tickets:
    """Signs and verifies with one key. clock: seconds since 1970."""

    key: bytes
    clock: Callable[[], float] = time.time

    def sign(self, ticket: feedback_pb2.Ticket) -> str:
        """The opaque text that a client sends back with its vote."""
        content = ticket.SerializeToString(deterministic=True)
        return base64.urlsafe_b64encode(self._mac(content) + content).decode().rstrip("=")

    def issue(self, reply: Reply, seconds: float) -> str:
        """The ticket for judging this reply within so many seconds; empty when it cannot be judged."""
        if reply.no_feedback_reason:
            return ""
        plan, origin = reply.plan, reply.plan.origin
        started = [a.draft.started for a in reply.answers]
        content = feedback_pb2.Ticket(
            tenant=origin.caller.tenant, user=origin.caller.user, conversation_id=plan.conversation_id, item_id=reply.item_id,
            answers=[feedback_pb2.TicketAnswer(response_id=s.response_id, adapter=s.adapter, side=s.side) for s in started],
            expires_at=int(self.clock() + seconds), source=origin.source, purpose=origin.purpose, consent=origin.consent,
            prompt_digest=prompt_digest(plan.prompt_ids),
        )  # fmt: skip
        return self.sign(content)

    def verify(self, text: str, caller: Caller) -> feedback_pb2.Ticket:
        """The content of a ticket issued to this caller.

        Raises PermissionDenied when it is forged, altered, expired, or another person's or tenant's.
        """
        ticket = self._open(text)
        if ticket.tenant != caller.tenant or not hmac.compare_digest(ticket.user, caller.user):
            raise PermissionDenied(
                "this feedback_ticket was issued to someone else; send the one of your own chat"
            )
        if ticket.expires_at <= self.clock():
            raise PermissionDenied(
                f"this feedback_ticket expired at {ticket.expires_at} (seconds since 1970); chat again for a new one"
            )
        return ticket

    def _open(self, text: str) -> feedback_pb2.Ticket:
        if not text or len(text) > MAX_TICKET:
            raise _forged(text)
        try:
            raw = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
            content = raw[MAC_BYTES:]
            if not hmac.compare_digest(raw[:MAC_BYTES], self._mac(content)):
                raise _forged(text)
            return feedback_pb2.Ticket.FromString(content)
        except (binascii.Error, DecodeError, UnicodeEncodeError) as error:
            raise _forged(text) from error

    def _mac(self, content: bytes) -> bytes:
        return hmac.digest(self.key, b"ticket\0" + content, "sha256")


def _forged(text: str) -> PermissionDenied:
    shown = text[:12] + "…" if text else "(empty)"
    return PermissionDenied(
        f"feedback_ticket {shown} was not issued here; send the one of ChatStarted unchanged"
    )


def prompt_digest(prompt_ids: Sequence[int]) -> str:
    """SHA-256 (hex) of the prompt's ids, so that rankings join only answers to the very same prompt."""
    return hashlib.sha256(",".join(map(str, prompt_ids)).encode()).hexdigest()

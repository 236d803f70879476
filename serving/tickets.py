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
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from heliotrope.errors import PermissionDenied
from heliotrope.v1 import feedback_pb2
from serving.caller import Caller

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

    def verify(self, text: str, caller: Caller) -> feedback_pb2.Ticket:
        """The content of a ticket issued to this caller.

        Raises PermissionDenied when it is forged, altered, expired, or another person's or tenant's.
        """
        ticket = self._open(text)
        if ticket.tenant != caller.tenant or not hmac.compare_digest(ticket.user, caller.user):
            raise PermissionDenied("this feedback_ticket was issued to someone else; send the one of your own chat")
        if ticket.expires_at <= self.clock():
            raise PermissionDenied(f"this feedback_ticket expired at {ticket.expires_at} (seconds since 1970); chat again for a new one")
        return ticket

    def _open(self, text: str) -> feedback_pb2.Ticket:
        forged = PermissionDenied(
            f"feedback_ticket {text[:12] + '…' if text else '(empty)'} was not issued here; send the one of ChatStarted unchanged"
        )
        if not text or len(text) > MAX_TICKET:
            raise forged
        try:
            raw = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
            content = raw[MAC_BYTES:]
            if not hmac.compare_digest(raw[:MAC_BYTES], self._mac(content)):
                raise forged
            return feedback_pb2.Ticket.FromString(content)
        except (binascii.Error, DecodeError, UnicodeEncodeError) as error:
            raise forged from error

    def _mac(self, content: bytes) -> bytes:
        return hmac.new(self.key, b"ticket\0" + content, hashlib.sha256).digest()

"""What of an event is a person's own, and how it is sealed: text, token ids and log-probabilities, under their key.

    sealed = key id (16 bytes) ‖ nonce (12) ‖ ChaCha20-Poly1305(key, nonce, what, associated data = event id)

`what` is the whole ResponseServed or FeedbackGiven; what is readable beside it is a list of its fields. Ids, kinds, choices, versions and times stay
readable, so that events can be joined, counted and repeated without any key. Without its key an event stays as it is,
`sealed` set: that is what erasure leaves.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from google.protobuf.message import DecodeError, Message

from heliotrope.v1.events_pb2 import Event

ID_BYTES, NONCE_BYTES, KEY_BYTES = 16, 12, 32
HEAD = ID_BYTES + NONCE_BYTES

_HEADER = ("event_id", "producer_id", "sequence", "time", "tenant", "user", "conversation_id", "source", "purpose",
           "consent", "schema", "origin")  # fmt: skip
_SERVED_OPEN = ("response_id", "started", "propensity", "envelope", "finish_reason", "first_token_seconds",
                "total_seconds", "gestures")  # fmt: skip
_SERVED = ("messages", "text", "prompt_token_ids", "response_token_ids", "logprobs")


@dataclass(frozen=True)
class Key:
    """One person's key. id names it and says nothing of whom it belongs to."""

    id: bytes
    secret: bytes = field(repr=False)

    @cached_property
    def box(self) -> ChaCha20Poly1305:
        """The cipher under this key."""
        return ChaCha20Poly1305(self.secret)

    @classmethod
    def new(cls) -> Key:
        """A random one."""
        return cls(secrets.token_bytes(ID_BYTES), secrets.token_bytes(KEY_BYTES))


def owner_of(event: Event) -> str:
    """Whose key an event is sealed with: tenant and pseudonym; events of nobody share one key a tenant."""
    return owner(event.tenant, event.user)


def owner(tenant: str, user: str) -> str:
    """A person as the key store names them; `user` is empty for nobody."""
    return f"{tenant}/{user}"


def has_content(event: Event) -> bool:
    """Whether there is anything in it to seal."""
    if event.HasField("response_served"):
        return any(getattr(event.response_served, name) for name in _SERVED)
    if event.HasField("feedback_given"):
        feedback = event.feedback_given.feedback
        return bool(feedback.comment or feedback.correction.text)
    return False


def seal(event: Event, key: Key) -> Event:
    """A copy with only what is readable in the open, and all of what happened sealed. The event itself is left alone."""
    sealed, what = Event(), event.WhichOneof("what")
    if what == "response_served":
        _copy(event, sealed, _HEADER)
        _copy(event.response_served, sealed.response_served, _SERVED_OPEN)
    else:
        sealed.CopyFrom(event)
        sealed.feedback_given.feedback.ClearField("comment")
        if sealed.feedback_given.feedback.HasField("correction"):
            sealed.feedback_given.feedback.correction.ClearField("text")
    content, nonce = getattr(event, what).SerializeToString(), secrets.token_bytes(NONCE_BYTES)
    sealed.sealed = key.id + nonce + key.box.encrypt(nonce, content, event.event_id.encode())
    return sealed


def open_(event: Event, box: ChaCha20Poly1305) -> bool:
    """Put back what a sealed event says; False, and unchanged, when it is not what was sealed with this key."""
    nonce, closed = event.sealed[ID_BYTES:HEAD], event.sealed[HEAD:]
    try:
        content = box.decrypt(nonce, closed, event.event_id.encode())
        whole = type(what := getattr(event, event.WhichOneof("what") or "response_served")).FromString(
            content
        )
    except (InvalidTag, DecodeError, ValueError):
        return False
    what.CopyFrom(whole)
    event.ClearField("sealed")
    return True


def key_id(event: Event) -> bytes:
    """The id of the key that an event is sealed with; empty when it is not sealed."""
    return event.sealed[:ID_BYTES]


def _copy(source: Any, target: Any, names: Iterable[str]) -> None:
    for name in names:
        value = getattr(source, name)
        if isinstance(value, str | int | float | bool):
            setattr(target, name, value)
        elif isinstance(value, Message):
            if source.HasField(name):
                getattr(target, name).CopyFrom(value)
        else:
            getattr(target, name).extend(value)

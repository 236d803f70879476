"""A chat request after its checks (`Ask`), and what was decided about it (`Plan`)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from heliotrope.chat import Message
from heliotrope.identity import event_id
from heliotrope.v1 import chat_pb2, common_pb2
from serving.caller import Caller
from serving.conversations import Conversation
from serving.engine import Sampling
from serving.journal import Origin


@dataclass(frozen=True)
class Limits:
    """The server's bounds and defaults. max_chats: answers streamed at once; max_queued: prompt tokens that may
    wait for a first token; ticket_seconds: how long one can be judged."""

    max_chats: int
    max_queued: int
    max_tokens: int
    temperature: float
    ticket_seconds: float


@dataclass(frozen=True)
class Ask:
    """A checked request. policy: a version for evaluation, or empty for the live one. history: the client's, if it holds one."""

    caller: Caller
    request_id: str
    conversation_id: str
    parent: str
    message: str
    history: tuple[Message, ...]
    policy: str
    temperature: float
    max_tokens: int | None
    wish: chat_pb2.ComparisonWish
    source: common_pb2.Source
    consent: bool
    asked_at: float

    @property
    def purpose(self) -> common_pb2.Purpose:
        """Evaluation when a version was named."""
        return common_pb2.PURPOSE_EVALUATION if self.policy else common_pb2.PURPOSE_CHAT


@dataclass(frozen=True)
class Plan:
    """All that is decided before anything is changed. conversation: the one that is continued, as it was read."""

    ask: Ask
    conversation_id: str
    parent: str
    messages: tuple[Message, ...]
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    origin: Origin
    conversation: Conversation | None = None


def response_id(ask: Ask, index: int) -> str:
    """UUIDv5(user, request_id, index): the same for a repeat. Without an identity there are no repeats: random."""
    return event_id(ask.caller.user or uuid.uuid4().hex, ask.request_id, "AB"[index])

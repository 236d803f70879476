"""How many answers there may be at once, and how much may wait for the engine: beyond it people are told to come back."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from heliotrope.errors import ResourceExhausted
from serving.ask import Limits


class Running(Protocol):
    """An answer in flight, as far as admission looks at it."""

    @property
    def queued_tokens(self) -> int:
        """Its prompt's tokens while it waits for its first token; 0 from then on."""
        ...


def admit(running: Collection[Running], count: int, prompt_tokens: int, limits: Limits) -> None:
    """Let `count` answers to a prompt of that many tokens in, or raise ResourceExhausted with what is full.

    A prompt is always let in when nothing waits, however long it is. The prompt of a comparison is computed once.
    """
    if len(running) + count > limits.max_chats:
        raise ResourceExhausted(
            f"{len(running)} of {limits.max_chats} answers are being streamed; try again in about 1 s"
        )
    queued = sum(answer.queued_tokens for answer in running)
    if queued and queued + prompt_tokens > limits.max_queued:
        raise ResourceExhausted(
            f"{queued} prompt tokens wait for the engine, and {prompt_tokens} more would exceed {limits.max_queued}; "
            "try again in about 1 s"
        )

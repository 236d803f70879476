"""Shared items: a configured pool of prompts whose first finished pair is shown to everyone who asks the same.

Agreement between people is measured from these and only these, so an item id names one very pair: it is
UUIDv5(prompt, first response of the pair). Later askers see the pair streamed at the pace at which it was drawn.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from heliotrope.errors import ConfigError
from heliotrope.identity import NAMESPACE
from heliotrope.v1 import common_pb2, events_pb2
from serving.engine import Finish, Piece

FINISHED: dict[int, Finish] = {
    common_pb2.FINISH_REASON_STOP: "stop",
    common_pb2.FINISH_REASON_LENGTH: "length",
}


@dataclass(frozen=True)
class Take:
    """One stored answer: enough to show it again as if it were drawn now."""

    adapter: common_pb2.AdapterRef
    sampling: common_pb2.Sampling
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
    first_seconds: float
    total_seconds: float

    async def pieces(self) -> AsyncIterator[Piece]:
        """The tokens one by one, at the pace at which they were drawn (at most 0.2 s between two)."""
        gap = min(0.2, max(0.0, self.total_seconds - self.first_seconds) / max(1, len(self.token_ids) - 1))
        await asyncio.sleep(min(5.0, self.first_seconds))
        for i, token in enumerate(self.token_ids):
            last = i + 1 == len(self.token_ids)
            yield Piece((token,), (self.logprobs[i],), self.finish if last else None)
            if not last:
                await asyncio.sleep(gap)


def item_id(prompt: str, response_id: str) -> str:
    """The id of the pair that was founded by this response."""
    return str(uuid.uuid5(NAMESPACE, f"item\0{prompt}\0{response_id}"))


class SharedItems:
    """Stored pairs by prompt and prompt ids. A prompt whose pair is being drawn is nobody else's item meanwhile."""

    def __init__(self, pool: Iterable[str]) -> None:
        self._pool = frozenset(pool)
        self._pairs: dict[str, tuple[str, list[Take]]] = {}
        self._forming: dict[str, str] = {}
        self._halves: dict[str, list[Take]] = {}

    def __contains__(self, prompt: str) -> bool:
        return prompt in self._pool

    def stored(self, prompt: str) -> tuple[str, list[Take]] | None:
        """Item id and the two takes, when the prompt's pair is complete."""
        return self._pairs.get(prompt)

    def found(self, prompt: str, response_id: str) -> str:
        """Claim the prompt for a pair that begins now; its item id, or empty when another asker was first."""
        if prompt not in self._pool or prompt in self._pairs or prompt in self._forming:
            return ""
        self._forming[prompt] = item_id(prompt, response_id)
        return self._forming[prompt]

    def add(self, served: events_pb2.ResponseServed) -> None:
        """Take one finished answer of a pair in; a pair that was not finished by the model frees its prompt."""
        item, prompt = served.started.item_id, served.messages[-1].content if served.messages else ""
        if not item or prompt not in self._pool or prompt in self._pairs:
            return
        if served.finish_reason not in FINISHED:
            self.release(prompt, item)
            return
        halves = self._halves.setdefault(item, [])
        halves.append(_take(served))
        if len(halves) == 2:
            self._pairs[prompt] = (item, self._halves.pop(item))
            self._forming.pop(prompt, None)

    def release(self, prompt: str, item: str) -> None:
        """Give up a pair that will not be complete."""
        self._halves.pop(item, None)
        if self._forming.get(prompt) == item:
            del self._forming[prompt]


def read_pool(path: Path | None) -> list[str]:
    """The prompts of the pool's file, one a line, empty lines left out. Raises ConfigError when it cannot be read."""
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"comparisons.shared_pool = {path} cannot be read ({error}); name a text file or leave it out"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def _take(served: events_pb2.ResponseServed) -> Take:
    return Take(
        served.started.adapter, served.started.sampling, tuple(served.response_token_ids), tuple(served.logprobs),
        FINISHED[served.finish_reason], served.first_token_seconds, served.total_seconds,
    )  # fmt: skip

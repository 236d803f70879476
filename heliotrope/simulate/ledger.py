"""What simulated people did, and every request that failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from heliotrope.errors import HeliotropeError, Unavailable

from .people import agreement

T = TypeVar("T")
TOO_MANY = 20
"""Failures in a row after which going on is pointless."""


@dataclass
class Ledger:
    """Counts. votes: (shared item, person, choice by the item's own sides), for measuring agreement."""

    requests: int = 0
    failed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    choices: Counter[str] = field(default_factory=Counter)
    thumbs: int = 0
    changed: int = 0
    uncompared: int = 0
    answers: int = 0
    votes: list[tuple[str, str, str]] = field(default_factory=list)
    _in_a_row: int = 0

    @property
    def comparisons(self) -> int:
        """Comparisons that were judged; a changed mind is still one."""
        return sum(self.choices.values())

    async def call(self, call: Awaitable[T], counted: bool = True) -> T | None:
        """The call's result; None when it failed, which is counted. Raises Unavailable after many in a row.

        `counted` False: a look at how things stand, which is a request in the counts only when it fails.
        """
        self.requests += counted
        try:
            result = await call
        except HeliotropeError as error:
            self.requests += not counted
            self._fail(error)
            return None
        self._in_a_row = 0
        return result

    async def drain(self, stream: AsyncIterator[T]) -> list[T] | None:
        """Everything that a stream brings; None when it failed, which is counted."""

        async def whole() -> list[T]:
            return [item async for item in stream]

        return await self.call(whole())

    def agreement(self) -> float | None:
        """Share of pairs on which two people decided alike, of shared items only; None when no two did."""
        try:
            return agreement(self.votes)
        except ValueError:
            return None

    def _fail(self, error: HeliotropeError) -> None:
        self.failed += 1
        self._in_a_row += 1
        self.failures[f"{error.code}: {error}"] += 1
        if self._in_a_row >= TOO_MANY:
            raise Unavailable(f"{TOO_MANY} requests in a row failed, the last with: {error}") from error

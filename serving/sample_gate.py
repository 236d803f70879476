"""Samples stay below people: how many the learner may have in the engine at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

FLOOR = 4
"""So many samples always go on, or a busy server would never learn."""
PER_PERSON = 2
"""An answer that a person waits for takes the room of so many samples."""


def allowed(streams: int, people: int) -> int:
    """Samples at once beside `people` answers being streamed: streams − 2 · people, at least 4 (or `streams` if fewer)."""
    return max(min(FLOOR, streams), streams - PER_PERSON * people)


class SampleGate:
    """Lets samples in, first come first served. people: answers being streamed now; call poke() when that changes."""

    def __init__(self, streams: int, people: Callable[[], int]) -> None:
        self._streams, self._people = streams, people
        self.inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def poke(self) -> None:
        """Let in as many of the waiting as there is room for."""
        while self._waiting and self.inside < allowed(self._streams, self._people()):
            waiter = self._waiting.popleft()
            if not waiter.done():
                self.inside += 1
                waiter.set_result(None)

    @asynccontextmanager
    async def seat(self) -> AsyncIterator[None]:
        """A place for one sample, waited for."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self.poke()
        try:
            await waiter
            yield
        finally:
            if waiter.done() and not waiter.cancelled():
                self.inside -= 1
            else:
                waiter.cancel()
            self.poke()

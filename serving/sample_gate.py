"""Samples stay below people: how many the learner may have in the engine at once, and which give way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass


def allowed(streams: int, beside: int, people: int) -> int:
    """Samples at once while `people` answers are being streamed: all `streams` without any, else `beside`, and one only
    once people hold half of the seats. Never none: a busy server must learn, too."""
    if not people:
        return streams
    return min(streams, beside) if people < streams / 2 else 1


@dataclass(eq=False)
class Seat:
    """One sample's place in the engine. called_back: to be given up at the next token; the sample goes on later."""

    called_back: bool = False


class SampleGate:
    """Lets samples in, first come first served, and calls the newest back when people come.

    streams: most samples at once; beside: most while people wait for answers. people: answers being streamed now;
    call poke() when that changes.
    """

    def __init__(self, streams: int, beside: int, people: Callable[[], int]) -> None:
        self._streams, self._beside, self._people = streams, beside, people
        self._seats: list[Seat] = []
        self._waiting: deque[asyncio.Future[Seat]] = deque()

    @property
    def inside(self) -> int:
        """Samples in the engine, those that were called back and have not left yet among them."""
        return len(self._seats)

    def poke(self) -> None:
        """Let in as many of the waiting as there is room for, or call back as many as there are too many."""
        room = allowed(self._streams, self._beside, self._people())
        while self._waiting and len(self._seats) < room:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._seats.append(Seat())
                waiter.set_result(self._seats[-1])
        for seat in self._seats[room:]:
            seat.called_back = True

    @asynccontextmanager
    async def seat(self, again: bool = False) -> AsyncIterator[Seat]:
        """A place for one sample, waited for. again: it was called back before, and goes first now."""
        waiter: asyncio.Future[Seat] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if again else self._waiting.append)(waiter)
        self.poke()
        try:
            yield await waiter
        finally:
            if waiter.done() and not waiter.cancelled():
                self._seats.remove(waiter.result())
            else:
                waiter.cancel()
            self.poke()

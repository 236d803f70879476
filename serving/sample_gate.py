"""Samples stay below people: how many the learner may have in the engine at once, how fast they come, and which give way."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

ENTRY_TOKENS = 256
"""Prompt tokens of samples that the engine may be at before their first token: a person who comes waits behind them."""
LINGER_SECONDS = 1.0
"""So long after the last answer its person may ask again: samples still hold back."""


def allowed(streams: int, beside: int, people: int) -> int:
    """Samples at once while `people` answers are being streamed: all `streams` without any, else `beside`, and one only
    once people hold half of the seats. Never none: a busy server must learn, too."""
    if not people:
        return streams
    return min(streams, beside) if people < streams / 2 else 1


@dataclass(eq=False)
class Seat:
    """One sample's place in the engine. tokens: of its prompt. warm: it has given a token. called_back: to be given up at
    the next token; the sample goes on later."""

    tokens: int
    warm: bool = False
    called_back: bool = False
    taken: asyncio.Event = field(default_factory=asyncio.Event)


class SampleGate:
    """Lets samples in, first come first served, and calls the newest back when people come.

    streams: most samples at once; beside: most while people wait for answers. people: answers being streamed now;
    call poke() when that changes.
    """

    def __init__(
        self, streams: int, beside: int, people: Callable[[], int], linger: float = LINGER_SECONDS
    ) -> None:
        self._streams, self._beside, self._people, self._linger = streams, beside, people, linger
        self._seats: list[Seat] = []
        self._waiting: deque[Seat] = deque()
        self._seen = -math.inf
        self._timer: asyncio.TimerHandle | None = None

    @property
    def inside(self) -> int:
        """Samples in the engine, those that were called back and have not left yet among them."""
        return len(self._seats)

    def poke(self) -> None:
        """Let in as many of the waiting as there is room for, or call back as many as there are too many."""
        room = allowed(self._streams, self._beside, self._present())
        while self._waiting and len(self._seats) < room and self._may_enter(self._waiting[0]):
            self._seats.append(self._waiting.popleft())
            self._seats[-1].taken.set()
        for seat in self._seats[room:]:
            seat.called_back = True

    def warmed(self, seat: Seat) -> None:
        """The sample has its first token: the next may enter."""
        seat.warm = True
        self.poke()

    def _may_enter(self, seat: Seat) -> bool:
        entering = sum(other.tokens for other in self._seats if not other.warm)
        return not entering or entering + seat.tokens <= ENTRY_TOKENS

    def _present(self) -> int:
        """People who wait; one for a moment after the last has his answer."""
        people, now = self._people(), time.monotonic()
        if people:
            self._seen = now
            return people
        left = self._seen + self._linger - now
        if left <= 0:
            return 0
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left, self._lingered)
        return 1

    def _lingered(self) -> None:
        self._timer = None
        self.poke()

    @asynccontextmanager
    async def seat(self, tokens: int, again: bool = False) -> AsyncIterator[Seat]:
        """A place for one sample with a prompt of that many tokens, waited for. again: it was called back before, and
        goes first now."""
        seat = Seat(tokens)
        (self._waiting.appendleft if again else self._waiting.append)(seat)
        self.poke()
        try:
            await seat.taken.wait()
            yield seat
        finally:
            (self._seats if seat.taken.is_set() else self._waiting).remove(seat)
            self.poke()

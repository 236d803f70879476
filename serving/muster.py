"""Prompts that come to an idle engine within a few milliseconds enter it in one step.

The engine's step cannot be joined once it has begun: of people who ask at the same moment the first would be read alone
and all others wait for that. Where answers are being drawn nobody waits here: who comes then waits for a step anyway.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

QUIET_SECONDS = 0.001
"""Nobody has come for this long: those who are there begin."""
LONGEST_SECONDS = 0.012
"""They begin after this long, whoever still comes."""


class Muster:
    """One for an engine. Its methods are called on one event loop. clock, sleep: seconds, for tests."""

    def __init__(
        self, quiet: float = QUIET_SECONDS, longest: float = LONGEST_SECONDS,
        clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        self._quiet, self._longest, self._clock, self._sleep = quiet, longest, clock, sleep
        self._drawing = self._waiting = 0
        self._latest = self._begins = 0.0

    @asynccontextmanager
    async def drawing(self) -> AsyncIterator[None]:
        """Around the drawing of one answer."""
        if not self._drawing:
            await self._gather()
        self._drawing += 1
        try:
            yield
        finally:
            self._drawing -= 1

    async def _gather(self) -> None:
        if not self._waiting:
            self._latest = self._clock() + self._longest
        self._begins = min(self._clock() + self._quiet, self._latest)
        self._waiting += 1
        try:
            while (left := self._begins - self._clock()) > 0:
                await self._sleep(left)
        finally:
            self._waiting -= 1

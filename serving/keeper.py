"""Watches over the engine. When it dies it is started again in place, with the same adapters, proved anew, and the live version.

Serving itself lives on meanwhile: votes are taken, answers that were cut off are closed as lost with the tokens that they had,
and whoever asks for an answer hears UNAVAILABLE with a time to try again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from heliotrope.errors import HeliotropeError, Unavailable
from serving.availability import Availability
from serving.engine import Engine
from serving.policy_desk import PolicyDesk

logger = logging.getLogger(__name__)

WATCH_SECONDS = 0.1
SOUND_SECONDS = 60.0
"""An engine that lives so long has not died of what killed the one before."""
MAX_TRIES = 3
PAUSE_SECONDS = 0.5
FIRST_GUESS = 30.0


@dataclass
class Keeper:
    """One engine's life after life. healthy: tells health checks; began: seconds that the last start took."""

    engine: Engine
    desk: PolicyDesk
    available: Availability
    healthy: Callable[[bool], Awaitable[None]]
    start_seconds: float = FIRST_GUESS
    clock: Callable[[], float] = time.monotonic
    _ready_at: float = 0.0
    _tries: int = 0

    async def watch(self) -> None:
        """Until cancelled. Raises Unavailable when the engine dies again and again; serving is then to end."""
        self._ready_at = self.clock()
        while True:
            try:
                await self.engine.check()
            except Unavailable as error:
                await self._revive(error)
            await asyncio.sleep(WATCH_SECONDS)

    async def _revive(self, death: HeliotropeError) -> None:
        self.available.down("the engine has died and is being restarted", self.start_seconds)
        await self.healthy(False)
        if self.clock() - self._ready_at >= SOUND_SECONDS:
            self._tries = 0
        while not await self._started(death):
            await asyncio.sleep(PAUSE_SECONDS)
        self.available.up()
        await self.healthy(True)
        self._ready_at = self.clock()
        logger.warning("the engine runs again, with %s live", self.desk.table.live.version)

    async def _started(self, death: HeliotropeError) -> bool:
        """One try. Raises Unavailable after the last one."""
        self._tries += 1
        if self._tries > MAX_TRIES:
            raise Unavailable(
                f"the engine died {self._tries} times with less than {SOUND_SECONDS:.0f} s of service in between "
                f"({death}); see what it logged (VLLM_LOGGING_LEVEL=INFO shows more), then restart serving"
            )
        logger.error("the engine has died and is started again, try %d of %d", self._tries, MAX_TRIES)
        self.available.restarts += 1
        began = self.clock()
        try:
            self.desk.swapper.forget()
            await self.engine.stop()
            await self.engine.start()
            await self.desk.restore()
            await self.engine.check()
        except Unavailable as error:
            logger.error("the engine could not be put back in place: %s", error)
            return False
        self.start_seconds = self.clock() - began
        return True

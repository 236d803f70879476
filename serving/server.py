"""The serving process from start to drain: listeners, engine, policies, and what must be closed at the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from heliotrope.errors import HeliotropeError, Unavailable
from heliotrope.settings.serving import Serving
from serving.availability import Availability
from serving.engine import Engine
from serving.interceptor import Gate
from serving.keeper import Keeper
from serving.listeners import Listener, Services, check_ports, private_listener, public_listener
from serving.policy_desk import PolicyDesk
from serving.reply import Replies
from serving.swap import Swapper

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
GRACE_SECONDS = 0.5
WITHOUT_ENGINE = (
    "heliotrope.v1.FeedbackService",
    "heliotrope.v1.AdminService",
    "heliotrope.v1.IngestService",
    "heliotrope.v1.PrivacyService",
)


def settle_heap() -> None:
    """Once, after the start: what that made lives as long as the process, and no garbage collection looks at it again. One
    that does, with the model's libraries imported, takes a tenth of a second in which no token and no vote goes on."""
    gc.collect()
    gc.freeze()


@dataclass
class Server:
    """Everything that `build` put together. available: whether requests may be routed to the engine; recover: folds the log;
    closers: log, writer and lock, closed last."""

    settings: Serving
    engine: Engine
    swapper: Swapper
    desk: PolicyDesk
    replies: Replies
    services: Services
    available: Availability
    recover: Callable[[], Awaitable[int]]
    closers: contextlib.ExitStack
    gate: Gate = field(default_factory=Gate)
    _listeners: list[Listener] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Ready when it returns. Raises HeliotropeError with the remedy; `close` is still to be called then."""
        check_ports(self.settings)
        began = time.monotonic()
        await self.engine.start()
        loaded = time.monotonic()
        if lost := await self.recover():
            logger.warning("%d responses were cut off by the last stop and are recorded as lost", lost)
        await self.desk.recover()
        await self.desk.look()
        for make, address in (
            (public_listener, self.settings.public_address),
            (private_listener, self.settings.private_address),
        ):
            listener = make(self.gate, self.services)
            self._listeners.append(listener)
            await listener.start(address)
        self._ready(began, loaded)
        keeper = Keeper(self.engine, self.desk, self.available, self._healthy, time.monotonic() - began)
        self._tasks.append(asyncio.create_task(self.desk.watch(), name="watch the registry"))
        self._tasks.append(asyncio.create_task(keeper.watch(), name="watch the engine"))

    async def _healthy(self, serving: bool) -> None:
        """What needs the engine serves or not; votes and the operators' view go on without it."""
        for listener in self._listeners:
            await listener.healthy(serving and not self.gate.draining, beside=WITHOUT_ENGINE)

    def _ready(self, began: float, loaded: float) -> None:
        admin, now = self.services.admin, time.monotonic()
        admin.ready_at, admin.engine_start_seconds, admin.ready_seconds = now, loaded - began, now - loaded
        logger.info("ready %.1f s after the engine, which took %.1f s", now - loaded, loaded - began)

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set. Raises Unavailable when the engine dies again and again."""
        while not stop.is_set():
            for task in self._tasks:
                if task.done():
                    task.result()
                    raise Unavailable(f"the task {task.get_name()!r} ended by itself; restart serving")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), CHECK_SECONDS)

    async def drain(self) -> None:
        """Take nothing new, let answers in flight finish up to `serving.drain_seconds`, record the rest as cancelled."""
        self.gate.draining = True
        for listener in self._listeners:
            await listener.healthy(False)
        await self.replies.drained(self.settings.drain_seconds)

    async def close(self) -> None:
        """End listeners, tasks, engine, log and lock, in this order; safe after a failed start."""
        for listener in self._listeners:
            await listener.server.stop(GRACE_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.swapper.stop()
        await self.desk.flush()
        try:
            await self.engine.stop()
        except HeliotropeError as error:
            logger.error("the engine did not stop cleanly: %s", error)
        finally:
            self.closers.close()

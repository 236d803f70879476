"""Hot swap: READY seen → verify → load → identity → behaviour → route → drain → unload.

Routing reads one attribute (`Swapper.live`), so a response starts wholly on the old version or wholly on the new one,
and ends on the one that it began with. A failure at any step leaves the old version serving and names the cause.
One event loop; swaps take turns, requests never wait for one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from heliotrope.errors import FailedPrecondition, HeliotropeError, NotFound
from heliotrope.registry import PolicyVersion, Registry
from serving.behaviour import Limits, check_behaviour, read_record
from serving.engine import Adapter, Engine, EngineError
from serving.engine_watch import DIED
from serving.identity import check_identity, check_name
from serving.pace import Pace
from serving.slots import SLOTS, Role, Slot, SlotTable, adapter_of, number_of

log = logging.getLogger(__name__)


class SwapError(FailedPrecondition):
    """A version was not taken. `step` is verify, load, identity or behaviour; the cause is chained."""

    def __init__(self, name: str, step: str, cause: Exception) -> None:
        super().__init__(f"{name} is not taken, it failed at {step}: {cause}")
        self.step = step


@dataclass(frozen=True)
class Swapped:
    """previous, current: None is the base. in_flight: responses that were running at the moment of routing."""

    previous: Adapter | None
    current: Adapter | None
    in_flight: int
    seconds: float


class Swapper:
    """The engine's residents and where new responses go. `live` and `canary` are read by routing; None is base."""

    def __init__(
        self, engine: Engine, registry: Registry, slots: int = SLOTS, limits: Limits | None = None
    ) -> None:
        self.engine, self.registry = engine, registry
        self.table, self.limits = SlotTable(slots), limits or Limits()
        self.pace = Pace(lambda: self._running() > 0)
        self.live: Adapter | None = None
        self.canary: Adapter | None = None
        self._swapping, self._shadowing = asyncio.Lock(), asyncio.Lock()
        self._changed = asyncio.Event()
        self._drains: dict[str, asyncio.Task[None]] = {}
        self._hurried: Counter[str] = Counter()  # names and seats that people wait for
        self._proven: dict[str, Mapping[str, str]] = {}  # sha256 of a resident's files, by its name

    # --- requests -----------------------------------------------------------------------------------------------------

    @contextmanager
    def using(self, adapter: Adapter | None) -> Iterator[Adapter | None]:
        """Count a response as running on `adapter`, so that it stays loaded. Raises Unavailable if not resident."""
        table = self.table
        table.acquire(adapter)
        try:
            yield adapter
        finally:
            table.release(adapter)
            self._changed.set()

    async def ensure(self, version: PolicyVersion) -> Adapter:
        """Make a version resident for people, in the shadow's seat unless it has another. Raises SwapError."""
        with self._hurrying(Role.SHADOW):  # whatever is checked there now, they wait for its end
            return await self.ensure_at_leisure(version)

    async def ensure_at_leisure(self, version: PolicyVersion) -> Adapter:
        """The same where only the learner waits for it."""
        async with self._shadowing:
            return await self._ready(version, Role.SHADOW, self._vacate_shadow)

    async def _ready(
        self, version: PolicyVersion, role: Role, make_room: Callable[[], Awaitable[None]]
    ) -> Adapter:
        """The version's adapter, loaded and checked, in this seat unless it has another."""
        while not ((slot := self._seated(version)) and slot.ready):
            if slot is not None:
                await self._settled(slot.adapter)
            elif self.table.has_room(role):
                await self._take(version, role)
            else:
                await make_room()
        return slot.adapter

    @contextmanager
    def _hurrying(self, what: str) -> Iterator[None]:
        """Meanwhile a check of this adapter, by name, or in this seat goes on without rests, also one that others began at leisure."""
        self._hurried[what] += 1
        try:
            yield
        finally:
            self._hurried[what] -= 1

    def _seated(self, version: PolicyVersion) -> Slot | None:
        """The slot of a version; for a shadow the same weights under any version's name will do."""
        if (slot := self.table.find(adapter_of(version))) or version.number is not None:
            return slot
        return next((s for s in self.table.residents() if s.adapter.digest == version.digest), None)

    async def _vacate_shadow(self) -> None:
        if (slot := self.table.holder(Role.SHADOW)) and slot.ready:
            await self._until(lambda: self.table.in_flight(slot.adapter) == 0)
            if self.table.find(slot.adapter) == slot:
                await self._unload(slot.adapter)
        await self._room_for(Role.SHADOW)

    async def _room_for(self, role: Role) -> None:
        await self._until(lambda: self.table.has_room(role))

    # --- swaps --------------------------------------------------------------------------------------------------------

    async def make_live(self, version: int, digest: str = "") -> Swapped:
        """Route new responses to a version; 0 is the base. Raises SwapError or NotFound, and then nothing changed.

        digest: of its weights when it was registered; other ones under its name are refused. A resident version (last good, canary) is routed to at once: a rollback waits for nothing.
        """
        began = time.monotonic()
        if self._is_live(version):
            return Swapped(self.live, self.live, self._running(), 0.0)
        if (quick := self._ready_version(version)) or version == 0:
            return self._route(quick, began)
        async with self._swapping:
            adapter = await self._resident(version, digest)
            return self._route(adapter, began)

    async def make_canary(self, version: int) -> Adapter:
        """Load and check a version, and offer it as `canary`. Raises as `make_live`."""
        async with self._swapping:
            adapter = await self._resident(version)
            if adapter != self.live:
                if (holder := self.table.holder(Role.CANARY)) and holder.adapter != adapter:
                    self._drain(holder.adapter)
                self.table.move(adapter, Role.CANARY)
                self.canary = adapter
            return adapter

    def end_canary(self) -> None:
        """No new response goes to the canary; it drains."""
        adapter, self.canary = self.canary, None
        if adapter is not None and (slot := self.table.find(adapter)) and slot.role is Role.CANARY:
            self._drain(adapter)

    def forget(self) -> None:
        """The engine has died and holds nothing any more: every seat is free, base is live, nothing runs.

        Whoever still holds a lease gives it back to the old table.
        """
        self.table, self.live, self.canary = SlotTable(self.table.capacity), None, None
        self._changed.set()

    async def stop(self) -> None:
        """Give up waiting for what drains; the engine is about to stop."""
        drains = list(self._drains.values())
        for task in drains:
            task.cancel()
        await asyncio.gather(*drains, return_exceptions=True)

    def residents(self) -> dict[str, Role]:
        """Versions in slots, by name."""
        return {slot.adapter.version: slot.role for slot in self.table.residents()}

    def _is_live(self, version: int) -> bool:
        return (self.live.version if self.live else "policy-v0") == f"policy-v{version}"

    def _ready_version(self, version: int) -> Adapter | None:
        ready = (slot.adapter for slot in self.table.residents() if slot.ready)
        return next((adapter for adapter in ready if adapter.version == f"policy-v{version}"), None)

    def _running(self) -> int:
        adapters = [None, *(slot.adapter for slot in self.table.residents())]
        return sum(self.table.in_flight(adapter) for adapter in adapters)

    async def _resident(self, version: int, digest: str = "") -> Adapter:
        """The version's adapter, loaded and checked; waits for a seat when all are taken."""
        try:
            read = await asyncio.to_thread(self.registry.read, version)
            check_name(read, digest)
        except NotFound:
            raise
        except HeliotropeError as error:
            raise SwapError(f"policy-v{version}", "verify", error) from error
        adapter = adapter_of(read)
        self._adopt(read)
        with self._hurrying(adapter.name):
            return await self._ready(read, Role.LOADING, lambda: self._room_for(Role.LOADING))

    def _adopt(self, version: PolicyVersion) -> None:
        """What the learner drew samples from to judge a version is that version: its load and both checks count."""
        slot = self.table.holder(Role.SHADOW)
        if slot and slot.ready and self._proven.get(slot.adapter.name) == version.manifest.files:
            self.table.adopt(slot.adapter, replace(adapter_of(version), loaded_as=slot.adapter.name))

    async def _take(self, version: PolicyVersion, role: Role) -> None:
        """Seat, load, and both checks, at leisure while nobody hurries. On failure the seat is free again."""
        adapter, step, table = adapter_of(version), "verify", self.table
        table.seat(adapter, role)
        try:
            record = await asyncio.to_thread(read_record, version.path, self.limits)
            step = "load"
            await self.engine.load(adapter)
            step = "identity"
            await check_identity(self.engine, adapter)
            step = "behaviour"
            pace = replace(self.pace, hurried=lambda: bool(self._hurried[adapter.name] + self._hurried[role]))
            figures = await check_behaviour(self.engine, adapter, record, self.limits, pace)
            if self.table is not table:
                raise EngineError(DIED)
        except BaseException as error:
            if self.table is table:
                await self._unload(adapter)
            if isinstance(error, HeliotropeError):
                raise SwapError(adapter.version, step, error) from error
            raise
        self.table.set_ready(adapter, True)
        self._proven[adapter.name] = version.manifest.files
        self._changed.set()
        log.info("%s is resident as %s: %s", adapter.name, role, figures)

    def _route(self, adapter: Adapter | None, began: float) -> Swapped:
        """The moment of the swap: nothing awaits between its first line and its last."""
        previous, running = self.live, self._running()
        forward = number_of(adapter) > number_of(previous)
        if adapter is not None and adapter == self.canary:
            self.canary = None
        if previous is not None:
            self.table.move(previous, Role.DRAINING)
        if forward and (good := self.table.holder(Role.LAST_GOOD)):
            self._drain(good.adapter)
        if adapter is not None:
            self.table.move(adapter, Role.LIVE)
        self.live = adapter
        if previous is not None:  # a version that was rolled back is no longer good
            self.table.move(previous, Role.LAST_GOOD) if forward else self._drain(previous)
        self._changed.set()
        return Swapped(previous, adapter, running, time.monotonic() - began)

    def _drain(self, adapter: Adapter) -> None:
        self.table.move(adapter, Role.DRAINING)
        task = self._drains.get(adapter.name)
        if task is None or task.done():
            self._drains[adapter.name] = asyncio.create_task(
                self._drained(adapter), name=f"drain {adapter.name}"
            )

    async def _drained(self, adapter: Adapter) -> None:
        """Unload once nothing runs on it, unless it has been called back into service meanwhile."""

        def settled() -> bool:
            slot = self.table.find(adapter)
            return slot is None or slot.role is not Role.DRAINING or self.table.in_flight(adapter) == 0

        await self._until(settled)
        if (slot := self.table.find(adapter)) and slot.role is Role.DRAINING:
            await self._unload(adapter)

    async def _unload(self, adapter: Adapter) -> None:
        if self.table.find(adapter) is None:  # the engine has died meanwhile
            return
        self.table.set_ready(adapter, False)
        try:
            await self.engine.unload(adapter)
        except HeliotropeError as error:
            log.warning("%s could not be unloaded and keeps its slot: %s", adapter.name, error)
            self.table.move(adapter, Role.DRAINING)
            return
        self.table.leave(adapter)
        self._changed.set()

    async def _settled(self, adapter: Adapter) -> None:
        """Wait while the adapter is being loaded or unloaded by someone else."""
        await self._until(lambda: (slot := self.table.find(adapter)) is None or slot.ready)

    async def _until(self, settled: Callable[[], bool]) -> None:
        while not settled():
            self._changed.clear()
            await self._changed.wait()

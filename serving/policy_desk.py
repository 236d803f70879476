"""Rolls policy versions out and back: the states table, the registry's folder and the swapper, kept in step.

Moves act in memory first and are recorded after, in order; what the log cannot take is kept and written later. So a
roll back needs neither the log nor the learner.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from heliotrope.errors import (
    FailedPrecondition,
    HeliotropeError,
    InvalidInput,
    LogError,
    NotFound,
    RegistryError,
    ResourceExhausted,
)
from heliotrope.identity import DEFAULT_TENANT
from heliotrope.policies import (
    BASE,
    CANDIDATE,
    FAILED,
    FORCED,
    LIVE,
    REJECTED,
    ROLLED_BACK,
    SUPERSEDED,
    PolicyTable,
    Standing,
    number,
    state_name,
)  # fmt: skip
from heliotrope.registry import PolicyVersion, Registry
from heliotrope.v1 import common_pb2, events_pb2
from serving.availability import Availability
from serving.caller import Caller
from serving.journal import Journal, Origin
from serving.pulse import Pulse
from serving.routes import check_base
from serving.swap import SwapError, Swapped, Swapper

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
ORIGIN = Origin(Caller(DEFAULT_TENANT, ""), source=common_pb2.SOURCE_AUTO)


@dataclass
class PolicyDesk:
    """One replica's table and its moves. in_flight, stop: answers of a version, as the replies know them.
    available: moves wait for an engine that is being put back in place."""

    table: PolicyTable
    registry: Registry
    swapper: Swapper
    journal: Journal
    base_digest: str
    mode: Literal["auto", "manual"]
    in_flight: Callable[[str], int]
    stop: Callable[[str], None]
    available: Availability = field(default_factory=Availability)
    pulse: Pulse = field(default_factory=Pulse)
    in_flight_at_last_swap: int = 0
    _pending: list[events_pb2.Event] = field(default_factory=list)
    _moving: asyncio.Lock = field(default_factory=asyncio.Lock)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def recover(self) -> None:
        """Fold the log and load what was live."""
        for _, event in self.journal.events("policy"):
            change = event.policy_state_changed
            # One writer, in order: a move that cannot be read must not void those after it.
            self.table.epoch = max(self.table.epoch, change.epoch - 1)
            self.table.apply(change)
        if self.table.live.state != LIVE:  # cut off between the two moves of a roll back
            stand_in = self.table.last_good or self.table.standings[BASE]
            self._apply(stand_in.version, LIVE, reason="put back: a stop came in the middle of a roll back")
        await self.restore()

    async def restore(self) -> None:
        """Load into an empty engine what is live, after both checks; when that fails, the last good version, and in the
        end the base. Raises Unavailable when the engine dies meanwhile."""
        async with self._moving:
            await self._load_standing()
        await self.flush()

    async def _load_standing(self) -> None:
        if (good := self.table.last_good) and number(good.version) < number(self.table.live.version):
            await self._load_again(
                good
            )  # seated first, it becomes the swapper's last good: a roll back then waits for nothing
        while not await self._load_again(self.table.live):
            following = (self.table.last_good or self.table.standings[BASE]).version
            logger.error("%s goes live in place of the version that could not be loaded", following)
            self._apply(following, LIVE, reason="the version that was live could not be loaded")

    async def _make_live(self, version: str) -> Swapped:
        return await self.swapper.make_live(number(version), self.table.standing(version).digest)

    async def _load_again(self, standing: Standing) -> bool:
        try:
            await self._make_live(standing.version)
        except (SwapError, NotFound) as error:
            await self.swapper.engine.check()  # a dead engine says nothing about the version
            logger.error("%s was live or good before and cannot be loaded: %s", standing.version, error)
            self._apply(standing.version, FAILED, reason=str(error))
            return False
        return True

    async def watch(self) -> None:
        """Follow the registry's folder until cancelled."""
        while True:
            try:
                await self.look()
            except (HeliotropeError, OSError) as error:
                logger.error("the registry could not be followed: %s", error)
            await asyncio.sleep(POLL_SECONDS)

    async def look(self) -> None:
        """Register what has become READY; in auto mode, put the newest passing candidate into service."""
        for n in self.registry.versions():
            if f"policy-v{n}" not in self.table.standings:
                await self._register(n)
        candidate = self.newest_candidate()
        if self.mode == "auto" and candidate and self.available.now:
            try:
                await self.promote(candidate.version, actor="auto", reason="every gate passed")
            except HeliotropeError as error:
                logger.error(
                    "%s did not go live, %s serves on: %s", candidate.version, self.table.live.version, error
                )
        await self.flush()

    def newest_candidate(self) -> Standing | None:
        """The candidate that waits, if one does."""
        waiting = [s for s in self.table.standings.values() if s.state == CANDIDATE]
        return max(waiting, key=lambda s: number(s.version), default=None)

    async def _register(self, n: int) -> None:
        name = f"policy-v{n}"
        try:
            version = await asyncio.to_thread(self.registry.read, n)
            check_base(version, self.base_digest)
        except (RegistryError, NotFound) as error:
            logger.error("%s is refused, %s serves on: %s", name, self.table.live.version, error)
            self._apply(name, FAILED, reason=str(error))
            return
        if why := why_rejected(version, self.table):
            self._apply(name, REJECTED, digest=version.digest, reason=why)
            return
        for older in [s.version for s in self.table.standings.values() if s.state == CANDIDATE]:
            self._apply(older, SUPERSEDED, reason=f"{name} is newer")
        self._apply(name, CANDIDATE, digest=version.digest, reason="every gate passed")

    async def promote(
        self,
        version: str,
        *,
        expected_epoch: int = 0,
        force: bool = False,
        reason: str = "",
        actor: str = "operator",
    ) -> Swapped:
        """Make a version live after both checks at load. Raises as PolicyService.PromotePolicy says.

        A version that cannot be loaded becomes `failed`, and the one before serves on.
        """
        self.available.check()
        async with self._moving:
            self.table.check_epoch(expected_epoch)
            self._check_promotion(self.table.standing(version), force, reason)
            await self.swapper.engine.check()
            before = self.table.live.version
            try:
                swapped = await self._make_live(version)
            except (SwapError, NotFound) as error:
                await self.swapper.engine.check()  # a dead engine says nothing about the version
                if self.table.standing(version).state != FAILED:
                    self._apply(version, FAILED, reason=str(error), actor=actor)
                await self.flush()
                raise
            # Rolled back while this one was loading: that decision is the newer one.
            if self.table.live.version != before:
                await self._make_live(self.table.live.version)
                raise FailedPrecondition(
                    f"{version} did not go live: {self.table.live.version} was put back meanwhile; look again"
                )
            self.in_flight_at_last_swap = self.in_flight(before)
            self._apply(version, LIVE, reason=reason, actor=actor)
        await self.flush()
        return swapped

    def _check_promotion(self, standing: Standing, force: bool, reason: str) -> None:
        if force and not reason.strip():
            raise InvalidInput(f"{standing.version} is forced without a reason; say why in `reason`")
        if standing.state in FORCED and not force:
            raise FailedPrecondition(
                f"{standing.version} is {state_name(standing.state)} ({standing.reason}); promote it with force and a reason, or train a better one"
            )
        self.table.move(standing.version, LIVE)

    async def roll_back(
        self, *, expected_epoch: int = 0, reason: str = "", stop_in_flight: bool = False
    ) -> None:
        """Put the last good version back, at once when it is resident. Raises FailedPrecondition when there is none,
        Unavailable while the engine is being restarted (and then nothing serves)."""
        self.available.check()
        self.table.check_epoch(expected_epoch)
        bad, good = self.table.live.version, self._good()
        try:
            await self._make_live(good)
        except (SwapError, NotFound) as error:
            await self.swapper.engine.check()
            self._apply(good, FAILED, reason=str(error), actor="operator")
            raise
        if self.table.live.version != bad:  # another move came first: routing follows the table
            await self._make_live(self.table.live.version)
            raise FailedPrecondition(
                f"{good} was not put back: {self.table.live.version} went live meanwhile; look again"
            )
        self.in_flight_at_last_swap = self.in_flight(bad)
        if stop_in_flight:
            self.stop(bad)
        self._apply(bad, ROLLED_BACK, reason=reason or "rolled back", actor="operator")
        self._apply(good, LIVE, reason=f"put back in place of {bad}", actor="operator")
        await self.flush()

    def _good(self) -> str:
        if self.table.live.version == BASE:
            raise FailedPrecondition(
                f"{BASE}, the base model, is live: there is nothing to roll back; promote a version instead"
            )
        good = self.table.last_good
        if good is None:
            raise FailedPrecondition(
                "there is no version to put back; promote one that you trust, with force and a reason"
            )
        return good.version

    def _apply(
        self, version: str, to: int, *, digest: str = "", reason: str = "", actor: str = "auto"
    ) -> None:
        change = self.table.move(version, to, digest=digest, actor=actor, reason=reason[:1024])  # type: ignore[arg-type]
        assert self.table.apply(change), "a move made for this epoch applies"
        event = self.journal.event(str(uuid.uuid4()), ORIGIN)
        event.policy_state_changed.CopyFrom(change)
        self._pending.append(event)
        self.pulse.beat()
        logger.info("%s is %s: %s", version, state_name(change.to), reason)

    async def flush(self) -> None:
        """Write the moves that are not in the log yet; what it cannot take is tried again at the next look."""
        async with self._writing:
            while self._pending:
                try:
                    await self.journal.commit(self._pending[0])
                except (LogError, ResourceExhausted) as error:
                    logger.error("%d moves are not in the log yet: %s", len(self._pending), error)
                    return
                del self._pending[0]


def why_rejected(version: PolicyVersion, table: PolicyTable) -> str:
    """Why a published version is not even a candidate; empty when it is one."""
    parent = table.standings.get(version.manifest.parent)
    if parent and parent.harmful:
        return f"trained from {parent.version}, which was rolled back"
    if version.manifest.passed:
        return ""
    gates = [f"{name}: {g.verdict}" for name, g in version.manifest.verdict.items() if g.verdict != "pass"]
    return f"the judge did not pass it ({', '.join(gates) or 'no gate named'})"

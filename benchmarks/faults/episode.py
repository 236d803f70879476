"""One installation from an empty folder to its check: people at work, programs killed as planned, then quiet."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from benchmarks.faults import history
from benchmarks.faults.checker import Report, check
from benchmarks.faults.clients import CHANNEL, Person
from benchmarks.faults.house import House, Program
from benchmarks.faults.plan import ANY_TIME, Episode, Kill
from benchmarks.faults.settle import settle
from benchmarks.faults.stores import read_stores
from benchmarks.faults.troubles import befall, limit_files

PEOPLE = 6
PAUSE = 0.02
LIFE_SECONDS = {"serving": 10.0, "learner": 30.0}
"""How long a failpoint is waited for; a life that does not come to it is killed and the kill is tried once more."""
SLOWER = 5.0
"""A learner's kill at any time comes so many times later than serving's: a start takes longer."""


@dataclass
class Result:
    """What became of an episode. kills: by place. ended: lives that ended without being killed. settled: whether all
    that was committed reached broker and learner in time."""

    number: int
    report: Report
    kills: Counter[str]
    ended: list[str]
    settled: bool


@dataclass
class Running:
    """An episode under way: the lives of the moment, and what has happened."""

    house: House
    episode: Episode
    kills: Counter[str] = field(default_factory=Counter)
    ended: list[str] = field(default_factory=list)
    lives: dict[str, Program] = field(default_factory=dict)
    troubles: list[asyncio.Task[None]] = field(default_factory=list)

    async def serve(self) -> None:
        """Serving's lives, and one more that stays."""
        waiting = deque((kill, True) for kill in self.episode.serving)
        number = 0
        while waiting:
            kill, first = waiting.popleft()
            self.lives["serving"] = self.house.serving(kill.failpoints)
            self._trouble(number)
            number += 1
            if not await self._end("serving", kill) and first:
                waiting.append((Kill(kill.place), False))
        self.lives["serving"] = self.house.serving()

    async def study(self) -> None:
        """The learner's lives that end at any time, while serving's do, then one that stays."""
        await self._study([kill for kill in self.episode.learner or () if kill.place == ANY_TIME])

    async def study_on(self) -> None:
        """Its lives that end at a failpoint, with a serving that stays: without one it comes to none."""
        if kills := [kill for kill in self.episode.learner or () if kill.place != ANY_TIME]:
            self.lives["learner"].kill()
            self.kills[ANY_TIME] += 1
            await self._study(kills)

    async def _study(self, kills: Sequence[Kill]) -> None:
        if self.episode.learner is None:
            return
        waiting = deque((kill, True) for kill in kills)
        while waiting:
            kill, first = waiting.popleft()
            self.lives["learner"] = self.house.learner(kill.failpoints)
            if not await self._end("learner", kill) and first:
                waiting.append((Kill(kill.place), False))
        self.lives["learner"] = self.house.learner("")

    async def _end(self, name: str, kill: Kill) -> bool:
        """See to the end of a life; whether it came as planned."""
        program = self.lives[name]
        slower = SLOWER if name == "learner" else 1.0
        wait = kill.seconds * slower if kill.place == ANY_TIME else LIFE_SECONDS[name]
        if await program.ended(wait):
            killed = program.process.exitcode == -9
            if killed:
                self.kills[kill.place] += 1
            else:
                self.ended.append(f"{name} ended by itself with {program.process.exitcode}")
            return killed
        program.kill()
        self.kills[ANY_TIME] += 1
        return kill.place == ANY_TIME

    def _trouble(self, number: int) -> None:
        for trouble in self.episode.troubles:
            if trouble.before == number:
                coming = befall(trouble, self.house, lambda: self.lives.get("learner"), self._fill)
                self.troubles.append(asyncio.create_task(coming))

    def _fill(self, full: bool) -> None:
        with contextlib.suppress(ProcessLookupError):
            limit_files(self.lives["serving"], full)

    async def stop(self) -> None:
        """End both programs as an operator does, the learner first: it waits for serving."""
        for name in sorted(self.lives):
            if code := await self.lives[name].stop():
                self.ended.append(f"{name} stopped with {code}")


async def run_episode(episode: Episode, house: House) -> Result:
    """Run it, and check what it leaves."""
    running, path = Running(house, episode), house.folder / "history.jsonl"
    try:
        async with people(house, episode.seed, path):
            await asyncio.gather(running.serve(), running.study())
            await running.study_on()
            await asyncio.gather(*running.troubles)
            await asyncio.sleep(0.5)
        settled = await settle(house.config, learns=episode.learner is not None)
        await running.stop()
        report = await asyncio.to_thread(_check, house, path)
        return Result(episode.number, report, running.kills, running.ended, settled)
    finally:
        for program in running.lives.values():
            program.kill()
        house.close()


def _check(house: House, path: Path) -> Report:
    return check(history.read(path), read_stores(house.config))


@contextlib.asynccontextmanager
async def people(house: House, seed: int, path: Path) -> AsyncIterator[Sequence[Person]]:
    """A few people at work; at the end each finishes the request that it is at."""
    written, rng = history.History(path), random.Random(seed)
    async with grpc.aio.insecure_channel(house.config.serving.public_address, options=CHANNEL) as channel:
        found = [
            Person(f"p{n}", channel, written, random.Random(rng.getrandbits(32)), PAUSE)
            for n in range(PEOPLE)
        ]
        tasks = [asyncio.create_task(person.live()) for person in found]
        yield found
        for person in found:
            person.stopping.set()
        await asyncio.gather(*tasks)
    written.close()


def complain(result: Result) -> None:
    """Print what an episode is accused of."""
    report = result.report
    for name in ("lost", "duplicated", "reordered", "phantom", "damaged"):
        for line in getattr(report, name)[:5]:
            print(f"episode {result.number}: {name}: {line}", file=sys.stderr, flush=True)

"""Prompts that come together enter an idle engine together; nobody waits where answers are being drawn."""

from __future__ import annotations

import asyncio

import pytest

from serving.muster import Muster


class Room:
    """People who ask one after the other, on a clock that the test moves. entered: who has begun, and when."""

    def __init__(self, quiet: float, longest: float) -> None:
        self.now = 0.0
        self.muster = Muster(quiet, longest, clock=lambda: self.now, sleep=self._sleep)
        self.entered: dict[str, float] = {}
        self._leave = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def _sleep(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            await asyncio.sleep(0)

    async def asks(self, name: str) -> None:
        """Somebody comes now."""
        self._tasks[name] = asyncio.create_task(self._answer(name))
        await self.passes(0.0)

    async def passes(self, seconds: float) -> None:
        """Time goes by, and whoever may begin begins."""
        self.now += seconds
        for _ in range(5):
            await asyncio.sleep(0)

    async def gives_up(self, name: str) -> None:
        """Somebody leaves."""
        task = self._tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def empties(self) -> None:
        """Everybody has been answered."""
        self._leave.set()
        await asyncio.gather(*self._tasks.values())
        self._leave.clear()

    async def _answer(self, name: str) -> None:
        async with self.muster.drawing():
            self.entered[name] = self.now
            await self._leave.wait()


@pytest.fixture
def room() -> Room:
    """Two seconds of quiet, eight at most."""
    return Room(quiet=2, longest=8)


async def test_one_person_waits_only_for_the_quiet(room: Room) -> None:
    await room.asks("only")
    await room.passes(1.9)
    assert room.entered == {}
    await room.passes(0.2)
    assert "only" in room.entered
    await room.empties()


async def test_who_comes_while_others_gather_begins_with_them(room: Room) -> None:
    await room.asks("first")
    await room.passes(1.5)
    await room.asks("second")
    await room.passes(1.5)
    assert room.entered == {}, "a newcomer prolongs the wait"
    await room.passes(0.5)
    assert room.entered == {"first": 3.5, "second": 3.5}
    await room.empties()


async def test_nobody_waits_longer_than_the_longest_however_many_come(room: Room) -> None:
    for number in range(8):
        await room.asks(f"person {number}")
        await room.passes(1.0)
    assert set(room.entered.values()) == {8.0} and len(room.entered) == 8
    await room.empties()


async def test_nobody_waits_beside_answers_that_are_drawn(room: Room) -> None:
    await room.asks("first")
    await room.passes(2.0)
    await room.asks("second")
    assert room.entered == {"first": 2.0, "second": 2.0}
    await room.empties()


async def test_they_gather_again_once_all_have_ended(room: Room) -> None:
    await room.asks("first")
    await room.passes(2.0)
    await room.empties()
    await room.asks("next")
    assert "next" not in room.entered
    await room.passes(2.0)
    assert room.entered["next"] == 4.0
    await room.empties()


async def test_who_gives_up_waiting_is_not_waited_for(room: Room) -> None:
    await room.asks("first")
    await room.passes(1.0)
    await room.gives_up("first")
    await room.passes(100.0)
    await room.asks("second")
    await room.passes(2.0)
    assert room.entered == {"second": 103.0}
    await room.empties()

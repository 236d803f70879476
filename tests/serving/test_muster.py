"""Prompts that come together enter an idle engine together; nobody waits where answers are being drawn."""

from __future__ import annotations

import asyncio

from serving.muster import Muster
from tests.waiting import until_async


class Engine:
    """Notes who enters, in order; nobody leaves until told."""

    def __init__(self, muster: Muster) -> None:
        self.muster, self.entered, self.leave = muster, [], asyncio.Event()

    async def answer(self, name: str) -> None:
        self.entered.append(f"{name} asks")
        async with self.muster.drawing():
            self.entered.append(f"{name} begins")
            await self.leave.wait()


async def test_who_comes_while_others_gather_begins_with_them() -> None:
    engine = Engine(Muster(quiet=3600, longest=0.5))
    async with asyncio.TaskGroup() as people:
        people.create_task(engine.answer("first"))
        await until_async(lambda: engine.entered == ["first asks"])
        people.create_task(engine.answer("second"))
        await until_async(lambda: len(engine.entered) == 4)
        engine.leave.set()
    assert engine.entered[:2] == ["first asks", "second asks"], "the first waited for the second"


async def test_a_newcomer_prolongs_the_wait() -> None:
    engine, now = Engine(Muster(quiet=0.1, longest=3600)), asyncio.get_running_loop().time
    async with asyncio.TaskGroup() as people:
        people.create_task(engine.answer("first"))
        await asyncio.sleep(0.05)
        people.create_task(engine.answer("second"))
        await until_async(lambda: "second asks" in engine.entered)
        came = now()
        await until_async(lambda: "first begins" in engine.entered)
        waited = now() - came
        engine.leave.set()
    assert waited > 0.09, "the first waits until nobody has come for a while"


async def test_nobody_waits_for_ever_however_many_come() -> None:
    engine = Engine(Muster(quiet=3600, longest=0.05))
    async with asyncio.timeout(60), asyncio.TaskGroup() as people:
        number = 0
        while not any(word.endswith("begins") for word in engine.entered):
            people.create_task(engine.answer(f"person {(number := number + 1)}"))
            await asyncio.sleep(0.01)
        engine.leave.set()
    assert number > 1


async def test_one_person_waits_only_for_the_quiet() -> None:
    engine = Engine(Muster(quiet=0.001, longest=3600))
    async with asyncio.timeout(60), asyncio.TaskGroup() as people:
        people.create_task(engine.answer("only"))
        await until_async(lambda: "only begins" in engine.entered)
        engine.leave.set()


async def test_nobody_waits_beside_answers_that_are_drawn() -> None:
    muster = Muster(quiet=0.001, longest=0.001)
    async with muster.drawing():
        muster = _never_again(muster)
        async with asyncio.timeout(60), muster.drawing():
            pass


async def test_they_gather_again_once_all_have_ended() -> None:
    muster = Muster(quiet=0.001, longest=0.001)
    async with muster.drawing():
        pass
    engine = Engine(_never_again(muster))
    only = asyncio.create_task(engine.answer("only"))
    await until_async(lambda: bool(muster._waiting))
    only.cancel()
    await asyncio.gather(only, return_exceptions=True)
    assert engine.entered == ["only asks"] and not muster._waiting


def _never_again(muster: Muster) -> Muster:
    """From now on who has to wait here waits for an hour."""
    muster._quiet = muster._longest = 3600
    return muster

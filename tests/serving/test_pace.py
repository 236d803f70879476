"""What work on a version takes from people."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from serving.pace import NICE, REST, UNHURRIED, Pace, aside


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were slept, which take no time."""
    times: list[float] = []

    async def sleep(seconds: float) -> None:
        times.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return times


async def test_beside_people_most_of_the_time_is_theirs(slept: list[float]) -> None:
    busy = Pace(lambda: True)
    await busy.rest(0.25)
    assert busy.lot() == 1 and slept == [0.25 * REST]


async def test_alone_it_hurries(slept: list[float]) -> None:
    alone = Pace(lambda: False)
    await alone.rest(0.25)
    assert alone.lot() == UNHURRIED and slept == []


@pytest.mark.skipif(sys.platform != "linux", reason="niceness of a thread")
async def test_only_the_thread_aside_gives_way() -> None:
    def niceness() -> tuple[str, int]:
        return threading.current_thread().name, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()
    name, nice = await aside(niceness)
    assert name.startswith("aside") and nice == max(before[1], NICE)
    assert niceness() == before and (await asyncio.to_thread(niceness))[1] == before[1]

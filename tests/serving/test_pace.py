"""What work on a version takes from people."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from serving.pace import LONGEST_REST, NICE, REST, UNHURRIED, Pace, _thread, aside


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were slept, which take no time."""
    times: list[float] = []

    async def sleep(seconds: float) -> None:
        times.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return times


@pytest.mark.parametrize(("took", "rest"), [(0.125, 0.125 * REST), (60.0, LONGEST_REST)])
async def test_beside_people_most_of_the_time_is_theirs(slept: list[float], took: float, rest: float) -> None:
    busy = Pace(lambda: True)
    await busy.rest(took)
    assert busy.lot() == 1 and sum(slept) == pytest.approx(rest)


async def test_alone_it_hurries(slept: list[float]) -> None:
    alone = Pace(lambda: False)
    await alone.rest(0.25)
    assert alone.lot() == UNHURRIED and slept == []


async def test_a_rest_ends_when_nobody_is_answered_any_more(slept: list[float]) -> None:
    await Pace(lambda: not slept).rest(60.0)
    assert len(slept) == 1


async def test_there_is_no_rest_while_somebody_waits_for_the_version(slept: list[float]) -> None:
    await Pace(lambda: True, hurried=lambda: True).rest(0.25)
    assert slept == []
    await Pace(lambda: True, hurried=lambda: len(slept) == 2).rest(60.0)
    assert len(slept) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="niceness of a thread")
async def test_only_the_thread_aside_gives_way() -> None:
    def niceness() -> tuple[str, int]:
        return threading.current_thread().name, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()
    name, nice = await aside(niceness)
    assert name.startswith("aside") and nice == max(before[1], NICE)
    assert niceness() == before and (await asyncio.to_thread(niceness))[1] == before[1]


async def test_where_giving_way_is_refused_the_work_is_done_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*asked: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    _thread.cache_clear()
    try:
        assert await aside(lambda: 7) == 7
    finally:
        _thread.cache_clear()

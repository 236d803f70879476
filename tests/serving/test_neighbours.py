"""Threads that wait awake while the cores are free, and asleep beside others' work."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from serving.vllm_plugin.neighbours import (
    LITTLE,
    MUCH,
    QUIET_WATCHES,
    TICKS,
    VARIABLE,
    Watch,
    Work,
    is_free,
    loaded,
    may_wait_awake,
    spins,
    work,
)  # fmt: skip

STAT = f"""cpu  {9 * TICKS} 0 0 0 0 0 0 0 0 0
cpu0 {2 * TICKS} {TICKS} {3 * TICKS} {50 * TICKS} {7 * TICKS} {4 * TICKS} {5 * TICKS} {6 * TICKS} 0 0
cpu1 {8 * TICKS} 0 0 0 0 0 0 0 0 0
cpu10 {90 * TICKS} 0 0 0 0 0 0 0 0 0
intr 1 2 3
"""


def test_work_is_summed_over_the_wanted_cores_without_stolen_time() -> None:
    assert work(STAT, {0}) == Work(all=2 + 1 + 3 + 4 + 5, niced=1, idle=50 + 7)
    assert work(STAT, {0, 1}) == Work(all=15 + 8, niced=1, idle=57)


def test_a_core_that_is_not_told_of_makes_the_rest_worthless() -> None:
    assert work(STAT, {1, 2}) is None


TWO_CORES = Work(all=1.5, niced=0.0, idle=0.5)
"""One second of two cores, of which this process worked 1.5 seconds."""


@pytest.mark.parametrize(
    ("done", "free"),
    [
        (TWO_CORES, True),
        (replace(TWO_CORES, all=1.5 + MUCH - 0.01), True),
        (replace(TWO_CORES, all=1.5 + MUCH + 0.01), False),
        (replace(TWO_CORES, niced=LITTLE - 0.01), True),
        (replace(TWO_CORES, niced=LITTLE + 0.01), False),
        (Work(0.0, 0.0, 0.0), False),
    ],
    ids=["own work", "some", "much", "little at low priority", "more of it", "a machine that does not count"],
)
def test_who_leaves_the_cores_alone(done: Work, free: bool) -> None:
    assert is_free(done, own=1.5, passed=1.0, cores=2) is free


class World:
    """A crowd that remembers, and a machine of one core whose work is said by the test."""

    def __init__(self) -> None:
        self.standing = False
        self.time, self.all, self.readable = 0, 0, True
        self.watch = Watch(self, (0,), self.stat, lambda: 0.0, lambda: float(self.time))  # type: ignore[arg-type]

    def gather(self) -> None:
        self.standing = True

    def leave(self) -> None:
        self.standing = False

    def stat(self) -> str:
        if not self.readable:
            raise PermissionError("/proc/stat")
        return f"cpu0 {self.all * TICKS} 0 0 {(self.time - self.all) * TICKS} 0 0 0"

    def second(self, others: int) -> bool:
        """One second, all of it or none worked by others; whether the crowd stands at its end."""
        self.time, self.all = self.time + 1, self.all + others
        self.watch.look()
        return self.standing


def test_threads_sleep_until_the_cores_have_been_free_for_a_while() -> None:
    world = World()
    assert world.standing
    assert [world.second(0) for _ in range(QUIET_WATCHES)] == [True] * (QUIET_WATCHES - 1) + [False]


def test_work_of_others_puts_them_to_sleep_at_once_and_one_quiet_look_wakes_nobody() -> None:
    world = World()
    for _ in range(QUIET_WATCHES):
        world.second(0)
    assert [world.second(others) for others in (0, 1, 0, 1, 0, 0)] == [False, True, True, True, True, False]


def test_who_cannot_look_lets_them_sleep_and_looks_on() -> None:
    world = World()
    for _ in range(QUIET_WATCHES):
        world.second(0)
    world.readable = False
    assert world.second(0)
    world.readable = True
    assert [world.second(0) for _ in range(QUIET_WATCHES + 1)][-1] is False


MAPS = """7f00-7f01 r-xp 00000000 00:1 7    /opt/torch/lib/libgomp.so.1
7f01-7f02 r--p 00000000 00:1 7    /opt/torch/lib/libgomp.so.1
7f02-7f03 r-xp 00000000 00:1 8    /usr/lib dir/libgomp-6a29.so.1.0.0
7f03-7f04 rw-p 00000000 00:0 0
7f04-7f05 r-xp 00000000 00:1 9    /usr/lib/libc.so.6
"""


def test_every_libgomp_of_the_process_is_found_once() -> None:
    assert loaded(MAPS) == ["/opt/torch/lib/libgomp.so.1", "/usr/lib dir/libgomp-6a29.so.1.0.0"]


WAITS = """
import time, torch
from serving.vllm_plugin.neighbours import Crowd
def burnt():
    torch.randn(400_000).sigmoid()
    begin = time.process_time()
    time.sleep(0.1)
    return time.process_time() - begin
crowd = Crowd(2)
for _ in range(2):
    while burnt() < 0.003:
        pass
    crowd.gather()
    print(burnt())
    crowd.leave()
"""


@pytest.mark.skipif(spins() == "0", reason="torch's OpenMP library here is not libgomp")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core has nobody to wait for")
def test_no_thread_of_torch_waits_awake_while_the_crowd_stands() -> None:
    """A helper thread that waits awake for some 20 ms works that long after its operation is done."""
    cores = str(len(os.sched_getaffinity(0)))
    settings = {"OMP_NUM_THREADS": cores, "OMP_WAIT_POLICY": "PASSIVE", VARIABLE: "1000000"}
    out = subprocess.run(
        [sys.executable, "-c", WAITS],
        env=os.environ | settings, check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert [float(line) < 0.003 for line in out.stdout.splitlines()] == [True, True]


@pytest.mark.parametrize("before", [None, "7"])
def test_only_what_is_started_inside_may_wait_awake(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    if before is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, before)
    with may_wait_awake():
        assert os.environ[VARIABLE] == spins()
    assert os.environ.get(VARIABLE) == before

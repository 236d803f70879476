"""Threads that wait awake while the cores are free, and asleep beside others' work."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from serving.engine_settings import EngineSettings, environment
from serving.vllm_plugin.neighbours import MUCH, QUIET_WATCHES, Watch, busy_seconds, openmp

TICK = os.sysconf("SC_CLK_TCK")
STAT = f"""cpu  {9 * TICK} 0 0 0 0 0 0 0 0 0
cpu0 {2 * TICK} {TICK} {3 * TICK} {50 * TICK} {7 * TICK} {4 * TICK} {5 * TICK} {6 * TICK} 0 0
cpu1 {8 * TICK} 0 0 0 0 0 0 0 0 0
cpu10 {90 * TICK} 0 0 0 0 0 0 0 0 0
intr 1 2 3
"""


def test_work_is_summed_over_the_wanted_cores_without_idle_and_stolen_time() -> None:
    assert busy_seconds(STAT, {0}) == 2 + 1 + 3 + 4 + 5
    assert busy_seconds(STAT, {0, 1}) == 15 + 8


class World:
    """A crowd that remembers, and a machine whose work is said by the test."""

    def __init__(self) -> None:
        self.standing: list[bool] = []
        self.time = self.all = self.mine = 0.0
        self.watch = Watch(self, (0,), lambda: f"cpu0 {round(self.all * TICK)} 0 0 0 0 0 0", lambda: self.mine,
                           lambda: self.time)  # type: ignore[arg-type]  # fmt: skip

    def gather(self) -> None:
        self.standing.append(True)

    def leave(self) -> None:
        self.standing.append(False)

    def second(self, others: float, mine: float) -> bool:
        """One second in which others and this process work so much; whether the crowd stands at its end."""
        self.time, self.all, self.mine = self.time + 1, self.all + others + mine, self.mine + mine
        self.watch.look()
        return self.standing[-1]


def test_threads_sleep_until_the_cores_have_been_free_for_a_while() -> None:
    world = World()
    assert [world.second(0.0, 0.0) for _ in range(QUIET_WATCHES)] == [True] * (QUIET_WATCHES - 1) + [False]


def test_work_of_others_puts_them_to_sleep_at_once_and_own_work_never_does() -> None:
    world = World()
    for _ in range(QUIET_WATCHES):
        world.second(0.0, 2.0)
    assert not world.second(MUCH - 0.1, 1.5)
    assert world.second(MUCH + 0.1, 0.0)


def test_one_quiet_look_between_busy_ones_wakes_nobody() -> None:
    world = World()
    assert all(world.second(others, 0.0) for others in (1.0, 0.0, 1.0, 0.0, 1.0))


WAITS = """
import time, torch
from serving.vllm_plugin.neighbours import Crowd, openmp
def burnt():
    torch.randn(400_000).sigmoid()
    begin = time.process_time()
    time.sleep(0.1)
    return time.process_time() - begin
crowd = Crowd(openmp(), 2)
for _ in range(2):
    awake = burnt()
    crowd.gather()
    asleep = burnt()
    crowd.leave()
    print(awake, asleep)
"""


@pytest.mark.skipif(openmp() is None, reason="torch's OpenMP library here is not libgomp")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) != 2, reason="written for two cores")
def test_no_thread_of_torch_waits_awake_while_the_crowd_stands() -> None:
    """A helper thread that waits awake for 20 ms works that long after its operation is done."""
    settings = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000000"}
    out = subprocess.run(
        [sys.executable, "-c", WAITS], env=os.environ | settings, check=True, capture_output=True, text=True
    )
    for line in out.stdout.splitlines():
        awake, asleep = map(float, line.split())
        assert asleep < 0.003 < awake


def test_without_a_library_that_can_be_told_threads_never_wait_awake(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.setattr("serving.engine_settings.openmp", lambda: None)
    settings = EngineSettings(tmp_path, ())  # type: ignore[arg-type]
    assert environment(settings)["GOMP_SPINCOUNT"] == "0"

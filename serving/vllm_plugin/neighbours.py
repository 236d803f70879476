"""Threads of the engine wait awake while its cores are free, and asleep while anybody else works on them.

A step of the engine is hundreds of operations, between which its threads wait for each other. Who sleeps there is
woken late, half of a step on two cores; who stays awake takes the cores from the learner, and then waits for its own
turn behind it (docs/experiments.md). libgomp reads once, at start, how long to stay awake (`GOMP_SPINCOUNT`), but with
`OMP_WAIT_POLICY=PASSIVE` no thread does while it looks after more threads than there are cores. So a `Crowd` of threads
that do nothing is what puts all others to sleep.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

SPINS = 10_000
"""Of a thread that waits, some 0.2 ms; a tenth of that is less than the gaps between operations."""
WATCH_SECONDS = 0.25
MUCH = 0.4
"""Cores at work for others from which on the engine's threads sleep. Serving itself takes less beside 32 streams."""
QUIET_WATCHES = 2
"""So many in a row with less than that wake them again."""


def openmp() -> Path | None:
    """The OpenMP library that torch brings, if it is libgomp."""
    torch = importlib.util.find_spec("torch")
    found = Path(torch.origin).parent.glob("lib/libgomp*.so*") if torch and torch.origin else ()
    return next(iter(sorted(found)), None)


def busy_seconds(stat: str, cores: Collection[int]) -> float:
    """Seconds of work that `cores` have done for anybody since the machine started; stat: the text of /proc/stat."""
    wanted, ticks = {f"cpu{core}" for core in cores}, 0
    for line in stat.splitlines():
        name, *fields = line.split()
        if name in wanted:
            user, nice, system, _, _, irq, softirq = (int(field) for field in fields[:7])
            ticks += user + nice + system + irq + softirq
    return ticks / os.sysconf("SC_CLK_TCK")


class Crowd:
    """One thread more than `cores`, all asleep. While it stands, no thread of this process waits awake."""

    def __init__(self, library: Path, cores: int) -> None:
        self._gomp = ctypes.CDLL(str(library))
        self._nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
        self._threads = cores + 1
        self._end: threading.Event | None = None

    def gather(self) -> None:
        """Returns when it stands."""
        if self._end is None:
            self._end, there = threading.Event(), threading.Event()
            threading.Thread(target=self._stand, args=(there, self._end), name="crowd", daemon=True).start()
            there.wait()

    def leave(self) -> None:
        """Its threads end by themselves, microseconds later."""
        if self._end is not None:
            self._end.set()
            self._end = None

    def _stand(self, there: threading.Event, end: threading.Event) -> None:
        self._gomp.GOMP_parallel(self._nothing, None, self._threads, 0)
        there.set()
        end.wait()


class Watch:
    """Gathers the crowd while others work much on `cores`, and lets it go when they no longer do.

    stat, own and clock: the text of /proc/stat, seconds that this process has worked, and a clock in seconds.
    """

    def __init__(
        self,
        crowd: Crowd,
        cores: Collection[int],
        stat: Callable[[], str] = Path("/proc/stat").read_text,
        own: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._crowd, self._cores = crowd, cores
        self._stat, self._own, self._clock = stat, own, clock
        self._quiet = 0
        self._last = self._others()
        crowd.gather()

    def _others(self) -> tuple[float, float]:
        """The time, and what others have worked until now; both in seconds."""
        return self._clock(), busy_seconds(self._stat(), self._cores) - self._own()

    def look(self) -> None:
        """Once every `WATCH_SECONDS`."""
        (before, worked), self._last = self._last, self._others()
        now, work = self._last
        self._quiet = 0 if work - worked > MUCH * (now - before) else self._quiet + 1
        if self._quiet == 0:
            self._crowd.gather()
        elif self._quiet == QUIET_WATCHES:
            self._crowd.leave()

    def stay(self) -> None:
        """Look for as long as the process lives."""
        while True:
            time.sleep(WATCH_SECONDS)
            self.look()


def mind_neighbours() -> None:
    """Begin to watch, in a thread of its own. Nothing to do where threads cannot wait awake."""
    library = openmp()
    if library is not None:
        cores = os.sched_getaffinity(0)
        watch = Watch(Crowd(library, len(cores)), cores)
        threading.Thread(target=watch.stay, name="neighbours", daemon=True).start()

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
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
"""A second, in the unit of /proc/stat."""
VARIABLE, SPINS = "GOMP_SPINCOUNT", 10_000
"""Looks of a thread that waits, some 0.2 ms; a tenth of that is less than the gaps between operations."""
WATCH_SECONDS = 0.25
MUCH = 0.4
"""Cores at work for others from which on the engine's threads sleep. Serving itself takes less beside 32 streams."""
LITTLE = 0.05
"""The same for work at low priority, which the engine's own would be if serving were started so: it would then always sleep."""
QUIET_WATCHES = 2
"""So many in a row with less than that wake them again."""


def spins() -> str:
    """Looks of an engine's threads: none where torch brings another OpenMP library, which no crowd would stop."""
    torch = importlib.util.find_spec("torch")
    ours = torch and torch.origin and any(Path(torch.origin).parent.glob("lib/libgomp*.so*"))
    return str(SPINS if ours else 0)


@contextmanager
def may_wait_awake() -> Iterator[None]:
    """Threads of processes started inside wait awake unless their crowd stands; this process's own never do."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = spins()
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


@dataclass(frozen=True)
class Work:
    """Seconds since the machine started, summed over some cores: all work, the part of it at low priority, and idle."""

    all: float
    niced: float
    idle: float

    def __sub__(self, other: Work) -> Work:
        return Work(self.all - other.all, self.niced - other.niced, self.idle - other.idle)


def work(stat: str, cores: Collection[int]) -> Work | None:
    """What `cores` have done for anybody; None when not all of them are told of. stat: the text of /proc/stat."""
    lines = {name: fields for name, *fields in map(str.split, stat.splitlines())}
    if any(f"cpu{core}" not in lines for core in cores):
        return None
    each = [[int(field) for field in lines[f"cpu{core}"][:7]] for core in cores]
    user, nice, system, idle, waiting, irq, softirq = (sum(kind) / TICKS for kind in zip(*each, strict=True))
    return Work(user + nice + system + irq + softirq, nice, idle + waiting)


class Crowd:
    """Threads that do nothing, one of them a thread of Python's. While they stand, no other of the process waits awake.

    threads: more than the cores that those of the engine leave. Should two libgomps be loaded, each has its own.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._gomps = [ctypes.CDLL(path) for path in loaded(Path("/proc/self/maps").read_text())]
        self._nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
        self._end: threading.Event | None = None

    def gather(self) -> None:
        """Returns when it stands."""
        if self._end is None:
            self._end, there = threading.Event(), threading.Event()
            threading.Thread(target=self._stand, args=(there, self._end), name="crowd", daemon=True).start()
            there.wait()

    def leave(self) -> None:
        """Its threads end by themselves, soon."""
        if self._end is not None:
            self._end.set()
            self._end = None

    def _stand(self, there: threading.Event, end: threading.Event) -> None:
        for gomp in self._gomps:
            gomp.GOMP_parallel(self._nothing, None, self._threads, 0)
        there.set()
        end.wait()


def loaded(maps: str) -> list[str]:
    """The libgomps of a process. maps: the text of its /proc/self/maps."""
    paths = {line.split(maxsplit=5)[-1] for line in maps.splitlines()}
    return sorted(path for path in paths if Path(path).name.startswith("libgomp"))


class Watch:
    """Gathers the crowd while others work much on `cores`, or nobody can say, and lets it go when they no longer do.

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
        self._last = self._now()
        crowd.gather()

    def _now(self) -> tuple[float, float, Work | None]:
        """The time, what this process has worked and what all have until now."""
        try:
            return self._clock(), self._own(), work(self._stat(), self._cores)
        except OSError:
            return self._clock(), self._own(), None

    def look(self) -> None:
        """Once every `WATCH_SECONDS`."""
        (before, worked, then), self._last = self._last, self._now()
        now, working, done = self._last
        free = (
            then is not None
            and done is not None
            and is_free(done - then, working - worked, now - before, len(self._cores))
        )
        self._quiet = self._quiet + 1 if free else 0
        if self._quiet == 0:
            self._crowd.gather()
        elif self._quiet == QUIET_WATCHES:
            self._crowd.leave()

    def stay(self) -> None:
        """Look for as long as the process lives."""
        while True:
            time.sleep(WATCH_SECONDS)
            self.look()


def is_free(done: Work, own: float, passed: float, cores: int) -> bool:
    """Whether others have left `cores` alone. own: seconds that this process has worked; passed: seconds of time.

    A learner at low priority gets little of a core whose thread never sleeps, so what it got does not say what it
    wants: a little of such work is enough. A machine that counts neither work nor idleness says nothing.
    """
    told = done.all + done.idle > cores * passed / 2
    return told and done.all - own < MUCH * passed and done.niced < LITTLE * passed


def mind_neighbours(threads: int) -> None:
    """Begin to watch, in a thread of its own. threads: of the engine."""
    cores = os.sched_getaffinity(0)
    watch = Watch(Crowd(max(len(cores) - threads, 0) + 2), cores)
    threading.Thread(target=watch.stay, name="neighbours", daemon=True).start()

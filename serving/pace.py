"""Work on a version beside people: what it takes from the engine and from the cores while somebody is answered."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeVar

Found = TypeVar("Found")
UNHURRIED = 16
"""Forced texts in the engine at once while nobody is answered. Beside people it is one; the trainer's have 18 tokens."""
REST = 3.0
"""Beside people, between two lots: so many times as long as one took, so that most steps are theirs alone."""
LONGEST_REST = 1.0
LOOK_SECONDS = 0.05
NICE = 10


@dataclass(frozen=True)
class Pace:
    """answering: whether anybody, a person or the learner with a sample, is answered at this moment. hurried: whether
    somebody waits for the version."""

    answering: Callable[[], bool]
    hurried: Callable[[], bool] = lambda: False

    def lot(self) -> int:
        """Forced texts to score at once."""
        return 1 if self.answering() else UNHURRIED

    async def rest(self, seconds: float) -> None:
        """After a lot that took so long; ends early when nobody is answered any more, or somebody begins to wait."""
        left = min(REST * seconds, LONGEST_REST)
        while left > 0 and self.answering() and not self.hurried():
            await asyncio.sleep(min(left, LOOK_SECONDS))
            left -= LOOK_SECONDS


async def aside(work: Callable[..., Found], *args: object) -> Found:
    """Run in a thread that gives way to the engine, for what takes a core for a while."""
    return await asyncio.get_running_loop().run_in_executor(_thread(), partial(work, *args))


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "aside", initializer=_give_way)


def _give_way() -> None:
    if sys.platform != "linux":  # there niceness belongs to the whole process
        return
    me = threading.get_native_id()
    with suppress(OSError):  # some sandboxes refuse it, and it is only a courtesy
        os.setpriority(os.PRIO_PROCESS, me, max(NICE, os.getpriority(os.PRIO_PROCESS, me)))

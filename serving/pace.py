"""Work on a version beside people: what it takes from the engine and from the cores while somebody is answered."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeVar

Found = TypeVar("Found")
UNHURRIED = 16
"""Forced texts in the engine at once while nobody is answered. Beside people it is one; the trainer's have 17 tokens."""
REST = 3.0
"""Beside people, after each lot: so many times as long as it took, so that most steps are theirs alone."""
NICE = 10


@dataclass(frozen=True)
class Pace:
    """answering: whether anybody is answered at this moment."""

    answering: Callable[[], bool]

    def lot(self) -> int:
        """Forced texts to score at once."""
        return 1 if self.answering() else UNHURRIED

    async def rest(self, seconds: float) -> None:
        """After a lot that took so long."""
        if self.answering():
            await asyncio.sleep(REST * seconds)


async def aside(work: Callable[..., Found], *args: object) -> Found:
    """Run in a thread that gives way to the engine, for what takes a core for a while and nobody waits for."""
    return await asyncio.get_running_loop().run_in_executor(_thread(), partial(work, *args))


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "aside", initializer=_give_way)


def _give_way() -> None:
    if sys.platform == "linux":  # elsewhere niceness belongs to the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)

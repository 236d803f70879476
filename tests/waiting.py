"""Wait for a condition with a deadline, in place of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

STEP = 0.01


def until(predicate: Callable[[], T], seconds: float = 10.0) -> T:
    """Call `predicate` every 10 ms until it is true; its value. Fails the test after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := predicate()):
        if time.monotonic() > end:
            raise AssertionError(f"not true within {seconds:g} s: {inspect.getsource(predicate).strip()}")
        time.sleep(STEP)
    return value


async def until_async(predicate: Callable[[], T | Awaitable[T]], seconds: float = 10.0) -> T:
    """As `until`, inside an event loop; `predicate` may be a coroutine function."""
    end = time.monotonic() + seconds
    while True:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not true within {seconds:g} s: {inspect.getsource(predicate).strip()}")
        await asyncio.sleep(STEP)

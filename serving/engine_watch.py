"""Calls to an engine's core that end when the core dies, and what is said then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from serving.engine import EngineError

DIED = "the engine is not running or has died; serving starts it again, try again in a minute"
WATCH_SECONDS = 0.1

T = TypeVar("T")


async def answered(call: Coroutine[Any, Any, T], dead: Callable[[], bool]) -> T:
    """The call's result. Raises EngineError when the core dies first: vLLM never answers a call that its core took along."""
    task = asyncio.create_task(call)
    try:
        while not task.done():
            if dead():
                raise EngineError(DIED)
            await asyncio.wait([task], timeout=WATCH_SECONDS)
        if dead() and (error := task.exception()):
            raise EngineError(DIED) from error
        return task.result()
    finally:
        task.cancel()

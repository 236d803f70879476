"""Whether the engine can be asked now: one object, read by all who route to it, written by the keeper."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from heliotrope.errors import Unavailable

LEAST_SECONDS = 1.0


@dataclass
class Availability:
    """Available at first. clock: monotonic seconds. restarts: of the engine, so far."""

    clock: Callable[[], float] = time.monotonic
    restarts: int = 0
    _why: str = ""
    _until: float = 0.0

    @property
    def now(self) -> bool:
        """True while requests may be routed."""
        return not self._why

    def down(self, why: str, seconds: float) -> None:
        """Refuse from now on. seconds: how long this is expected to last; it is the hint that callers get."""
        self._why, self._until = why, self.clock() + seconds

    def up(self) -> None:
        """Take requests again."""
        self._why = ""

    def check(self) -> None:
        """Raise Unavailable, with the time after which to try again, unless requests may be routed."""
        if self._why:
            left = max(LEAST_SECONDS, self._until - self.clock())
            raise Unavailable(f"{self._why}; try again in about {math.ceil(left)} s", round(left * 1000))

"""How several threads share one derived store: by turns, each as short as a page of records."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from heliotrope.errors import Unavailable


class Turns:
    """`with turns:` the store is the caller's alone. Whoever follows a log reads without a turn and takes one a page, so
    that an erasure waits for a page at most.

    round: how often something was erased. What was read from the log in an earlier round may hold it in the open, and is
    read again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._over = False
        self.round = 0

    def __enter__(self) -> Self:
        """Wait for a turn. Raises Unavailable once there are none."""
        self._lock.acquire()
        if self._over:
            self._lock.release()
            raise Unavailable("the store is closed: serving is stopping; ask again once it is up")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self._lock.release()

    def next_round(self) -> None:
        """Within a turn: pages that were read before are to be read again."""
        self.round += 1

    def end(self) -> None:
        """Within a turn: this was the last one."""
        self._over = True

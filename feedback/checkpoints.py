"""Moves what was committed from SQLite's write-ahead log into its file, in a thread of its own, so that no commit waits
for it: a vote that met a checkpoint of four megabytes waited twelve milliseconds and more.

First what is there is moved while commits go on; then what came meanwhile, which is little, while none does. Only with
nothing left to move does the next commit begin the write-ahead log anew, and keep it small.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from contextlib import AbstractContextManager
from pathlib import Path

from heliotrope.failpoints import reach

CHECKPOINT_BYTES = 4 << 20
"""Bytes between two checkpoints."""
_MOVE = "PRAGMA wal_checkpoint(PASSIVE)"

logger = logging.getLogger(__name__)


class Checkpoints:
    """Of the file at `path`. turn: held by whoever writes to it. What a reader keeps from being moved stays in the
    write-ahead log, committed, for the next time."""

    def __init__(self, path: Path, turn: AbstractContextManager) -> None:
        self._path, self._turn = path, turn
        self._unmoved = 0
        self._thread: threading.Thread | None = None

    def written(self, count: int) -> None:
        """So many bytes were committed. One caller at a time."""
        self._unmoved += count
        if self._unmoved >= CHECKPOINT_BYTES and not self._moving:
            self._unmoved = 0
            self._thread = threading.Thread(target=self._move, name="log-checkpoint", daemon=True)
            self._thread.start()

    def keep_up(self) -> None:
        """Wait where a checkpoint is so slow that half as much as it moves was written meanwhile: the write-ahead log stays
        small whatever comes. Not to be called in one's turn to write."""
        if self._unmoved >= CHECKPOINT_BYTES // 2 and self._moving:
            self.settle()

    def settle(self) -> None:
        """Wait for the one that is under way. Not to be called in one's turn to write."""
        if self._thread:
            self._thread.join()

    @property
    def _moving(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _move(self) -> None:
        reach("in a checkpoint")
        try:
            with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(_MOVE)
                with self._turn:
                    connection.execute(_MOVE)
        except sqlite3.Error as error:
            logger.warning("the log %s was committed and not moved into its file: %s", self._path, error)

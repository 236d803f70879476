"""Serving's own view of the log: a thread that follows it into a file, and the questions that operators ask of that file."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedback.lineage import Check, of_event, of_version, readable, replay
from feedback.log import Event, Log
from feedback.quarantine import Quarantined
from feedback.training_set import TrainingSet
from heliotrope.errors import HeliotropeError
from heliotrope.policies import number
from heliotrope.registry import Registry

FOLLOW_SECONDS = 2.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replayed:
    """A rebuild from the log. before, after: the training set's hash in the store as it was and as it is made anew."""

    before: str
    after: str
    examples: int
    versions: tuple[Check, ...]

    @property
    def agrees(self) -> bool:
        """Whether the stores and every version agree with the log."""
        return self.before == self.after and all(check.agrees for check in self.versions)


class ReadModels:
    """Follows `log` into the file at `path`, which is made again from the log whenever it is missing. open_: opens a
    derived store. Methods may be called from any thread; they wait for each other."""

    def __init__(
        self, log: Log, open_: Callable[[Path], TrainingSet], path: Path, registry: Registry
    ) -> None:
        self._log, self._open, self._path, self._registry = log, open_, path, registry
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._kept: TrainingSet | None = None
        self._thread = threading.Thread(target=self._run, name="read models", daemon=True)

    def start(self) -> None:
        """Follow the log from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the file; idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            if self._kept is not None:
                self._kept.close()
                self._kept = None

    def quarantined(self, limit: int, before: int, reason: str) -> tuple[list[Quarantined], dict[str, int]]:
        """Records in quarantine, newest first, and how many there are of each reason."""
        with self._lock:
            kept = self._current()
            return kept.quarantined(limit, before, reason), kept.quarantine_counts()

    def retry_quarantine(self) -> tuple[int, int]:
        """Look again at all in quarantine; how many could be used, and how many stay."""
        with self._lock:
            return self._current().retry()

    def lineage(self, name: str) -> dict[str, Any]:
        """Of a version or an event. Raises NotFound."""
        with self._lock:
            kept = self._current()
            if name.startswith("policy-v"):
                return of_version(self._registry.read(number(name)), self._registry, kept)
            return of_event(name, self._registry, kept)

    def erase(self, erasure: Event) -> None:
        """Take out what a person gave before, without waiting for the log to give the request. Raises LogError."""
        with self._lock:
            self._opened().erase(erasure)

    def replay(self) -> Replayed:
        """Make the store again from the log, put it in the old one's place, and compare both and every version."""
        with self._lock:
            kept = self._current()
            before = kept.hash()
            fresh_path = self._path.with_name(f"{self._path.stem}.replay.db")
            _remove(fresh_path)
            fresh = self._open(fresh_path)
            try:
                checks = replay(self._log, fresh, readable(self._registry))
                done = Replayed(before, fresh.hash(), len(fresh.examples()), tuple(checks))
                fresh.close()
                kept.close()
                self._kept = None
                _remove(self._path)
                fresh_path.rename(self._path)
            finally:
                fresh.close()
                _remove(fresh_path)  # half a store would hold what people said where no erasure looks
            return done

    def _current(self) -> TrainingSet:
        kept = self._opened()
        kept.follow(self._log)
        return kept

    def _opened(self) -> TrainingSet:
        if self._kept is None:
            self._kept = self._open(self._path)
            self._kept.retry()  # a newer program may know what the last one did not
        return self._kept

    def _run(self) -> None:
        while not self._stop.wait(FOLLOW_SECONDS):
            try:
                with self._lock:
                    self._current()
            except HeliotropeError as error:
                logger.error("the read models do not follow the log: %s", error)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

"""Serving's own view of the log: a thread that follows it into a file, and the questions that operators ask of that file."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from feedback.lineage import of_event, of_version, readable
from feedback.log import Event, Log
from feedback.quarantine import Quarantined
from feedback.replay import Replayed, beside, put, rebuild
from feedback.training_set import TrainingSet
from feedback.turns import Turns
from heliotrope.errors import FailedPrecondition, HeliotropeError, LogError, Unavailable
from heliotrope.policies import number
from heliotrope.registry import Registry

FOLLOW_SECONDS = 2.0
STOP_SECONDS = 5.0
"""How long a stop waits for a log that is being read."""

logger = logging.getLogger(__name__)


class ReadModels:
    """Follows `log` into the file at `path`, which is made again from the log whenever it is missing. open_: opens a
    derived store.

    Methods may be called from any thread. Following, also the first time, and a replay take turns by the page, so that
    an erasure never waits for them.
    """

    def __init__(
        self, log: Log, open_: Callable[[Path], TrainingSet], path: Path, registry: Registry
    ) -> None:
        self._log, self._open, self._path, self._registry = log, open_, path, registry
        self._turns, self._opening = Turns(), threading.Lock()
        self._following, self._replaying = threading.Lock(), threading.Lock()
        self._stop, self._looked_again = threading.Event(), False
        self._kept: TrainingSet | None = None
        self._fresh: TrainingSet | None = None
        self._erased: list[Event] = []
        self._thread = threading.Thread(target=self._run, name="read models", daemon=True)

    def start(self) -> None:
        """Follow the log from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the file; idempotent. Waits for a page, and `STOP_SECONDS` for a log that does not
        answer."""
        if self._stop.is_set():
            return
        self._stop.set()
        with self._turns:
            self._turns.end()
            if self._kept is not None:
                self._kept.close()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            logger.warning("the log has not answered the read models for %g s; not waited for", STOP_SECONDS)

    def quarantined(self, limit: int, before: int, reason: str) -> tuple[list[Quarantined], dict[str, int]]:
        """Records in quarantine, newest first, and how many there are of each reason; while a broker is away those that were
        found before."""
        with suppress(LogError):
            self._follow()
        with self._turns:
            kept = self._store()
            return kept.quarantined(limit, before, reason), kept.quarantine_counts()

    def retry_quarantine(self) -> tuple[int, int]:
        """Look again at all in quarantine; how many could be used, and how many stay."""
        self._follow()
        with self._following:
            return self._store().retry(self._turns)

    def lineage(self, name: str) -> dict[str, Any]:
        """Of a version or an event. Raises NotFound."""
        self._follow()
        with self._turns:
            kept = self._store()
            if name.startswith("policy-v"):
                return of_version(self._registry.read(number(name)), self._registry, kept)
            return of_event(name, self._registry, kept)

    def erase(self, erasure: Event) -> None:
        """Take out what a person gave before, without waiting for the log to give the request. Their key is destroyed
        already: what is read from now on is sealed. Raises LogError."""
        self._store()  # opening it may take long, and is no turn
        with self._turns:
            self._turns.next_round()
            self._erased.append(erasure)
            self._store().erase(erasure)
            if self._fresh is not None:
                self._fresh.erase(erasure)

    def replay(self) -> Replayed:
        """Make the store again from the log, compare both and every version, and put it in the old one's place, unless a
        version's lineage needs what only the old one holds.

        Raises FailedPrecondition while another replay runs.
        """
        if not self._replaying.acquire(blocking=False):
            raise FailedPrecondition("a replay runs already; wait for its end")
        try:
            self._follow()
            with beside(self._open, self._path) as fresh:
                try:
                    return self._replaced(fresh)
                finally:
                    self._let_go()
        finally:
            self._replaying.release()

    def _replaced(self, fresh: TrainingSet) -> Replayed:
        with self._turns:
            self._fresh = fresh
            for erasure in self._erased:  # a broker may give the log's own later
                fresh.erase(erasure)
        done = rebuild(self._log, self._store(), fresh, readable(self._registry), self._turns)
        if not done.held:
            with self._following, self._turns:
                put(fresh, self._store(), self._path)
                self._kept = self._fresh = None
        return done

    def _let_go(self) -> None:
        """Before the half-made store is closed: no erasure is in it, and none looks for it."""
        with suppress(Unavailable), self._turns:
            self._fresh = None

    def _follow(self) -> None:
        """Take in all that is new."""
        with self._following:
            kept = self._store()
            if not self._looked_again:  # a newer program may know what the last one did not
                kept.retry(self._turns)
                self._looked_again = True
            kept.follow(self._log, turns=self._turns)

    def _store(self) -> TrainingSet:
        with self._opening:
            if self._kept is None:
                self._kept = self._open(self._path)
            return self._kept

    def _run(self) -> None:
        while not self._stop.wait(FOLLOW_SECONDS):
            try:
                self._follow()
            except HeliotropeError as error:
                if not self._stop.is_set():
                    logger.error("the read models do not follow the log: %s", error)

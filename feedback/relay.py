"""From the outbox to the broker: a thread that sends what waits, in order per key, and starts over when the broker fails.

A session is one connection. When anything about it is in doubt (no answer, an error, topics made anew) it is thrown away
and the next one sends what is not marked: a repeat is dropped by readers, a gap would be lost.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from feedback.outbox import PRUNED_AT_ONCE, Outbox, Row
from feedback.relay_session import Done, Session
from heliotrope.errors import HeliotropeError, LogError

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two attempts to reach the broker; twice as long after each failure."""
MEET_SECONDS = 5.0
"""How often an idle session looks whether the broker still has what it acknowledged."""
PRUNE_SECONDS = 60.0
STOP_SECONDS = 10.0
"""How long a stop waits for a broker that does not answer; the thread ends by itself after that."""


class TopicState(Protocol):
    """A topic as the broker has it now: its name, id, and newest position by partition."""

    @property
    def name(self) -> str: ...
    @property
    def incarnation(self) -> str: ...
    @property
    def ends(self) -> dict[int, int]: ...


class Link(Protocol):
    """A connection to the broker; each method raises LogError when it does not answer."""

    def topics(self) -> Sequence[TopicState]:
        """Every topic, as it is now."""
        ...

    def send(self, row: Row, done: Done) -> None:
        """Send one row; `done` hears of its own outcome, once, from any thread."""
        ...

    def close(self) -> None:
        """Give up what is under way."""
        ...


@dataclass
class Health:
    """How the relay fares. failures: sessions that ended in an error; resent: rows sent again to a broker that had lost them."""

    connected: bool = False
    failures: int = 0
    resent: int = 0
    last_error: str = ""


class Relay:
    """Sends the outbox to the broker from `start` to `stop`. patience: seconds after which a send without an outcome is given up."""

    def __init__(self, outbox: Outbox, connect: Callable[[], Link], patience: float) -> None:
        self.outbox, self.connect, self.patience = outbox, connect, patience
        self.health = Health()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def start(self) -> None:
        """Begin in the background; the broker need not be there."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what was not acknowledged is sent at the next start."""
        self._stopping.set()
        self.outbox.wake.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                self._relay()
            except HeliotropeError as error:
                pause = FIRST_PAUSE if self.health.connected else min(pause * 2, LONGEST_PAUSE)
                self._failed(error)
            except Exception as error:
                # The client library's own faults: a dead thread would fill the outbox unseen.
                logger.exception("the relay failed, and goes on")
                pause = min(pause * 2, LONGEST_PAUSE)
                self._failed(LogError(f"{type(error).__name__}: {error}"))
            self._stopping.wait(pause)

    def _relay(self) -> None:
        """One session, until told to stop or it fails."""
        link = self.connect()
        try:
            session = Session(self.outbox, link.send, self.patience)
            met = pruned = -math.inf
            while not self._stopping.is_set():
                now = time.monotonic()
                if now - met > MEET_SECONDS:
                    self._meet(link, session)
                    met = now
                if now - pruned > PRUNE_SECONDS and self.outbox.prune() < PRUNED_AT_ONCE:
                    pruned = now
                session.step()
        finally:
            link.close()

    def _meet(self, link: Link, session: Session) -> None:
        """Learn the topics' ids; what the broker no longer has goes out again, from the oldest on."""
        for topic in link.topics():
            lost = self.outbox.forget(topic.name, topic.incarnation, topic.ends)
            session.meet(topic.name, topic.incarnation, rewind=lost > 0)
            self.health.resent += lost
            if lost:
                logger.warning("the broker lost %d events of %s; they are sent again", lost, topic.name)
        self.health.connected = True

    def _failed(self, error: HeliotropeError) -> None:
        if self.health.connected or not self.health.failures:
            logger.warning("events wait in the outbox: %s", error)
        self.health.connected = False
        self.health.failures += 1
        self.health.last_error = str(error)

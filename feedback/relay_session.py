"""One connection's worth of relaying: at most one event of each key on its way, and a bounded number of keys."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from feedback.log import POLICY
from feedback.outbox import Mark, Outbox, Row
from heliotrope.errors import LogError
from heliotrope.failpoints import reach

IDLE_SECONDS, BUSY_SECONDS = 0.5, 0.05
HELD = 4
"""Rows in hand, on their way or behind one of their key, as a multiple of the window."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sent:
    """The broker has it: partition, and Kafka's offset plus one."""

    partition: int
    position: int


@dataclass(frozen=True)
class Refused:
    """The broker answered that it does not take this record."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """Nobody knows whether the broker has it."""

    reason: str


Outcome = Sent | Refused | Failed
Done = Callable[[Row, Outcome], None]


class Session:
    """Takes rows from the outbox in order, sends those whose key is free, marks each on its own success.

    A refused row is tried once more, alone, because a batch is refused with its bad record; refused alone it goes to
    quarantine and its key is free again. A version's move stays instead, and holds up those after it.
    """

    def __init__(self, outbox: Outbox, send: Callable[[Row, Done], None], patience: float) -> None:
        self._outbox, self._send_row, self._patience = outbox, send, patience
        self._window = outbox.settings.window
        self._cursor, self._rewinds = 0, outbox.rewinds
        self._incarnations: dict[str, str] = {}
        self._flying: dict[int, float] = {}
        self._behind: dict[tuple[str, str], deque[Row]] = {}
        self._taken: set[int] = set()
        self._suspects: deque[Row] = deque()
        self._alone = 0
        self._outcomes: SimpleQueue[tuple[Row, Outcome]] = SimpleQueue()

    def meet(self, topic: str, incarnation: str, *, rewind: bool) -> None:
        """The topic's id from now on; `rewind` begins with the oldest row again."""
        self._incarnations[topic] = incarnation
        if rewind:
            self._cursor = 0

    def step(self) -> None:
        """Send what may go, wait a moment for outcomes or for news, and settle them. Raises LogError when in doubt."""
        self._outbox.wake.clear()
        self._fill()
        if self._flying:
            self._settle(self._collect())
            self._give_up()
        else:
            self._outbox.wake.wait(IDLE_SECONDS)

    def _fill(self) -> None:
        if self._alone:
            return
        if self._suspects:
            if not self._flying:
                suspect = self._suspects.popleft()
                self._alone = suspect.offset
                self._send(suspect)
            return
        if self._rewinds != self._outbox.rewinds:
            self._cursor, self._rewinds = 0, self._outbox.rewinds
        room = min(self._window - len(self._flying), HELD * self._window - len(self._taken))
        for row in self._outbox.waiting(self._cursor, room) if room > 0 else ():
            self._cursor = row.offset
            if row.offset not in self._taken:
                self._take(row)

    def _take(self, row: Row) -> None:
        if row.event is None:
            self._quarantine(row, f"unreadable: {row.problem}")
            return
        self._taken.add(row.offset)
        key = (row.topic, row.key)
        if key in self._behind:
            self._behind[key].append(row)
        else:
            self._behind[key] = deque()
            self._send(row)

    def _send(self, row: Row) -> None:
        reach("between reply and send")
        self._flying[row.offset] = time.monotonic()
        self._send_row(row, lambda of, outcome: self._outcomes.put((of, outcome)))

    def _collect(self) -> list[tuple[Row, Outcome]]:
        """What is known by now; waits a moment for the first."""
        found: list[tuple[Row, Outcome]] = []
        try:
            found.append(self._outcomes.get(timeout=BUSY_SECONDS))
            while True:
                found.append(self._outcomes.get_nowait())
        except Empty:
            return found

    def _give_up(self) -> None:
        """Raises LogError when one has been on its way too long."""
        if self._flying and time.monotonic() - min(self._flying.values()) > self._patience:
            raise LogError(
                f"the broker has not answered for {self._patience:g} s; what waits is sent once it does"
            )

    def _settle(self, outcomes: list[tuple[Row, Outcome]]) -> None:
        sent = [(row, outcome) for row, outcome in outcomes if isinstance(outcome, Sent)]
        if sent:
            reach("between send and mark")
            self._outbox.mark(
                [Mark(row, self._incarnations[row.topic], to.partition, to.position) for row, to in sent]
            )
        for row, outcome in outcomes:
            self._flying.pop(row.offset, None)
            match outcome:
                case Sent():
                    self._free(row)
                case Refused():
                    self._refused(row, outcome.reason)
                case Failed():
                    raise LogError(
                        f"the broker did not take event {row.event_id}: {outcome.reason}; it is sent again"
                    )
            if row.offset == self._alone:
                self._alone = 0

    def _refused(self, row: Row, reason: str) -> None:
        if row.offset != self._alone:
            self._suspects.append(row)
            return
        # A version's moves follow one another: what comes after one that is left out counts for nothing.
        if row.topic == POLICY:
            logger.error(
                "the broker does not take event %s of a version, and waits for it: %s", row.event_id, reason
            )
            return
        self._quarantine(row, reason)
        self._free(row)

    def _quarantine(self, row: Row, reason: str) -> None:
        self._outbox.quarantine(row, reason)
        logger.error(
            "event %s is not sent to the broker: %s; see heliotrope log quarantine list",
            row.event_id,
            reason[:500],
        )

    def _free(self, row: Row) -> None:
        """The next of its key may go."""
        self._taken.discard(row.offset)
        key = (row.topic, row.key)
        if self._behind[key]:
            self._send(self._behind[key].popleft())
        else:
            del self._behind[key]

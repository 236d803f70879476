"""What of the embedded log is at the broker: marks, quarantine, and how much still waits.

The events themselves stay in the log's own file, committed before anyone was told. This file is derived: losing it, or
its newest marks in a crash, only means that events are sent again, and readers drop repeats.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlite_utils import Database

from feedback.log import EXCHANGES, FEEDBACK, Event, LogFull
from feedback.sqlite_log import SqliteLog, unpack
from heliotrope.errors import LogError
from heliotrope.settings.log import Outbox as Settings

DAY = 86_400.0
REMEMBERED_DAYS = 30.0
"""How long a request_id is known and a judgement can be taken back: feedback is kept at least as long."""
PRUNED_AT_ONCE = 500

_WAITING = """FROM log.events AS e WHERE e.offset > ?
    AND NOT EXISTS (SELECT 1 FROM marks AS m WHERE m.offset = e.offset)
    AND NOT EXISTS (SELECT 1 FROM quarantine AS q WHERE q.offset = e.offset)"""


class OutboxFull(LogFull):
    """As many events as the outbox takes wait for the broker: nothing was recorded."""


@dataclass(frozen=True)
class Row:
    """One committed event that the broker does not have yet; `event` is None where the bytes do not parse."""

    offset: int
    topic: str
    key: str
    event_id: str
    value: bytes
    event: Event | None
    problem: str


@dataclass(frozen=True)
class Mark:
    """Where the broker has a row. incarnation: the topic's id then; position: Kafka's offset plus one."""

    row: Row
    incarnation: str
    partition: int
    position: int


class Outbox:
    """Keeps account of the rows of `store`, the log that serving writes; `path` is this account's own file. For any thread."""

    def __init__(
        self, store: SqliteLog, path: str, settings: Settings, clock: Callable[[], float] = time.time
    ) -> None:
        self.store, self.settings, self.clock = store, settings, clock
        self.wake = threading.Event()
        self._low = 0  # every row up to here is marked or in quarantine
        self.rewinds = 0
        """Rises when rows wait again that a session has passed."""
        self._lock, self._use = threading.Lock(), threading.Lock()
        with self._errors():
            self._file = _open(path, store)
            self._depth = self._one(f"SELECT count(*) {_WAITING}", 0)
        store.committed = self._committed

    @property
    def depth(self) -> int:
        """Events that wait for the broker."""
        return self._depth

    def admit(self, events: Sequence[Event]) -> None:
        """Raises OutboxFull when too many wait. Ends of responses and states of versions, which others bound, always fit."""
        if self._depth + len(events) <= self.settings.max_events:
            return
        if any(e.WhichOneof("what") not in ("response_served", "policy_state_changed") for e in events):
            raise OutboxFull(
                f"{self._depth} events wait for the broker and the outbox takes {self.settings.max_events}; nothing was "
                "recorded; try again once the broker is back (heliotrope status shows it), or raise outbox.max_events"
            )

    def waiting(self, after: int, limit: int) -> list[Row]:
        """The oldest rows after an offset that the broker does not have."""
        sql = f"SELECT e.offset, e.topic, e.key, e.event_id, e.crc, e.value {_WAITING} ORDER BY e.offset LIMIT ?"
        with self._errors():
            newest = self._one("SELECT coalesce(max(offset), 0) FROM log.events")
            rows = self._file.execute(sql, (max(after, self._low), limit)).fetchall()
            if after <= self._low:
                self._low = rows[0][0] - 1 if rows else max(self._low, newest)
        return [
            Row(offset, topic, key, event_id, value, *unpack(event_id, crc, value))
            for offset, topic, key, event_id, crc, value in rows
        ]

    def age(self) -> float:
        """Seconds since the oldest waiting event happened; 0 when none waits."""
        oldest = self.waiting(0, 1) if self._depth else []
        if not oldest or oldest[0].event is None:
            return 0.0
        return max(0.0, self.clock() - oldest[0].event.time.ToNanoseconds() / 1e9)

    def mark(self, marks: Sequence[Mark]) -> None:
        """The broker has these."""
        now = self.clock()
        values = [(m.row.offset, m.row.topic, m.incarnation, m.partition, m.position, now) for m in marks]
        self._write("INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?)", values)
        self._grow(-len(marks))

    def quarantine(self, row: Row, reason: str) -> None:
        """The broker will never take this one: it stays in the log's file, and is not tried again."""
        values = (row.offset, row.event_id, row.topic, reason[:500], self.clock())
        self._write("INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?, ?)", [values])
        self._grow(-1)

    def refused(self) -> int:
        """How many rows are in quarantine."""
        with self._errors():
            return self._one("SELECT count(*) FROM quarantine")

    def quarantined(self, limit: int = 100) -> list[tuple[str, str]]:
        """Event id and reason, newest first."""
        with self._errors():
            sql = "SELECT event_id, reason FROM quarantine ORDER BY at DESC, offset DESC LIMIT ?"
            return self._file.execute(sql, (limit,)).fetchall()

    def try_again(self) -> int:
        """Let what the broker did not take wait once more; how many rows that is."""
        with self._errors():
            waiting = self._one(
                "SELECT count(*) FROM quarantine AS q JOIN log.events AS e ON e.offset = q.offset"
            )
            self._file.execute("DELETE FROM quarantine")
            self._low = 0 if waiting else self._low
        self._grow(waiting)
        self.rewinds += bool(waiting)
        self.wake.set()
        return waiting

    def forget(self, topic: str, incarnation: str, ends: Mapping[int, int]) -> int:
        """Unmark what the broker has no longer: the topic was made anew, or ends below a mark. How many rows that was."""
        gone: list[tuple[str, tuple]] = [
            (
                "topic = ? AND incarnation < ?",
                (topic, incarnation),
            ),  # two ranges of an index, where != would read all
            ("topic = ? AND incarnation > ?", (topic, incarnation)),
        ]
        gone += [("topic = ? AND partition = ? AND position > ?", (topic, p, end)) for p, end in ends.items()]
        with self._errors():
            lost = sum(
                self._file.execute(f"DELETE FROM marks WHERE {which}", values).rowcount
                for which, values in gone
            )
            self._low = 0 if lost else self._low
        self._grow(lost)
        return lost

    def prune(self) -> int:
        """Drop rows that were relayed long ago; how many. States of versions, consent and erasures are kept for ever:
        serving folds them from here at each start."""
        dropped = 0
        for topic, days in (
            (EXCHANGES, self.settings.keep_days),
            (FEEDBACK, max(self.settings.keep_days, REMEMBERED_DAYS)),
        ):
            sql = (
                "SELECT m.offset FROM marks AS m JOIN log.events AS e ON e.offset = m.offset"
                " WHERE m.topic = ? AND m.at < ? AND e.key NOT LIKE 'user:%' ORDER BY m.at LIMIT ?"
            )
            with self._errors():
                old = self._file.execute(sql, (topic, self.clock() - days * DAY, PRUNED_AT_ONCE)).fetchall()
            dropped += len(gone := self.store.drop([offset for (offset,) in old]))
            self._write("DELETE FROM marks WHERE offset = ?", [(offset,) for offset in gone])
        return dropped

    def close(self) -> None:
        """Close the file; the log stays open."""
        with self._errors():
            self._file.close()

    def _committed(self, count: int) -> None:
        self._grow(count)
        self.wake.set()

    def _grow(self, count: int) -> None:
        with self._lock:
            self._depth += count

    def _one(self, sql: str, *values: object) -> int:
        return self._file.execute(sql, values).fetchone()[0]

    def _write(self, sql: str, rows: Iterable[tuple]) -> None:
        with self._errors():
            self._file.execute("BEGIN IMMEDIATE")
            try:
                self._file.executemany(sql, rows)
                self._file.execute("COMMIT")
            finally:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self._use:
            try:
                yield
            except sqlite3.Error as error:
                raise LogError(f"the outbox's account fails: {error}; check the disk") from error


def _open(path: str, store: SqliteLog) -> sqlite3.Connection:
    """The account's file with the log's beside it, read-only. Marks need not be on disk at once: they can be made again."""
    file = sqlite3.connect(f"file:{path}", uri=True, isolation_level=None, check_same_thread=False)
    file.execute("PRAGMA journal_mode = WAL")
    file.execute("PRAGMA synchronous = NORMAL")
    database = Database(file)
    columns = {
        "offset": int,
        "topic": str,
        "incarnation": str,
        "partition": int,
        "position": int,
        "at": float,
    }
    marks = database.table("marks").create(columns, pk="offset", if_not_exists=True)
    marks.create_index(["topic", "at"], if_not_exists=True)
    marks.create_index(["topic", "incarnation"], if_not_exists=True)
    marks.create_index(["topic", "partition", "position"], if_not_exists=True)
    columns = {"offset": int, "event_id": str, "topic": str, "reason": str, "at": float}
    database.table("quarantine").create(columns, pk="offset", if_not_exists=True)
    file.execute("ATTACH DATABASE ? AS log", (f"{store.path.resolve().as_uri()}?mode=ro",))
    return file

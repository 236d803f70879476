"""Where records wait that no reader could use: with the reason, for two weeks, within a bound, to be looked at or tried again.

A table in the file of whoever reads the log, written in the transaction that moves the reader's position on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from feedback.inspection import Problem, Reason
from feedback.log import Record

WHOLE_BYTES, GLIMPSE_BYTES = 64 * 1024, 1024
"""A record up to the first is kept whole; of a larger one the second is kept to look at, and the log has the rest."""

TABLE = """
CREATE TABLE IF NOT EXISTS quarantine (
  number INTEGER PRIMARY KEY AUTOINCREMENT, place TEXT NOT NULL, offset INTEGER NOT NULL, event_id TEXT NOT NULL,
  person TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, at REAL NOT NULL, size INTEGER NOT NULL,
  value BLOB NOT NULL, UNIQUE (place, offset));
CREATE INDEX IF NOT EXISTS quarantine_event ON quarantine (event_id);
"""
_COLUMNS = "place, offset, event_id, person, reason, detail, at, size, value"


@dataclass(frozen=True)
class Bounds:
    """days: how long a record stays. bytes: what all of them may take; beyond it the oldest go."""

    days: float = 14.0
    bytes: int = 256 << 20


@dataclass(frozen=True)
class Quarantined:
    """One record. number: rises. at: when it came here, seconds since 1970. size: of the record, bytes.
    value: the record, or the beginning of one that is too large to keep. person: tenant and pseudonym when known."""

    number: int
    place: str
    offset: int
    event_id: str
    person: str
    reason: str
    detail: str
    at: float
    size: int
    value: bytes

    @property
    def whole(self) -> bool:
        """Whether `value` is all of it."""
        return len(self.value) == self.size


def put(
    connection: sqlite3.Connection, record: Record, problem: Problem, now: float, person: str = ""
) -> None:
    """Keep a record with its reason; one from the same place of the log is kept once."""
    event = record.event
    value = record.value if event is None else event.SerializeToString(deterministic=True)
    kept = value if len(value) <= WHOLE_BYTES else value[:GLIMPSE_BYTES]
    name = event.event_id[:64] if event is not None else ""
    row = (
        record.place,
        record.offset,
        name,
        person,
        problem.reason,
        problem.detail[:256],
        now,
        len(value),
        kept,
    )
    connection.execute(
        f"INSERT OR IGNORE INTO quarantine ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row
    )


def rows(connection: sqlite3.Connection, limit: int, before: int = 0, reason: str = "") -> list[Quarantined]:
    """At most `limit` records, newest first; below number `before` unless 0, of one reason unless empty."""
    sql = (
        f"SELECT number, {_COLUMNS} FROM quarantine WHERE (? = 0 OR number < ?) AND (? = '' OR reason = ?)"
        " ORDER BY number DESC LIMIT ?"
    )
    return [Quarantined(*row) for row in connection.execute(sql, (before, before, reason, reason, limit))]


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """How many records wait, by reason."""
    return dict(connection.execute("SELECT reason, count(*) FROM quarantine GROUP BY reason ORDER BY reason"))


def remove(connection: sqlite3.Connection, numbers: Collection[int]) -> None:
    """Let records go."""
    connection.executemany("DELETE FROM quarantine WHERE number = ?", [(n,) for n in numbers])


def release(connection: sqlite3.Connection, event_ids: Sequence[str]) -> None:
    """Let judgements go whose responses have come after all."""
    sql = "DELETE FROM quarantine WHERE event_id = ? AND reason = ?"
    connection.executemany(sql, [(id, Reason.TARGET_UNKNOWN.value) for id in event_ids])


def prune(connection: sqlite3.Connection, now: float, bounds: Bounds) -> int:
    """Drop what is too old, then the oldest while there is too much; how many went."""
    gone = connection.execute("DELETE FROM quarantine WHERE at < ?", (now - bounds.days * 86_400,)).rowcount
    total, seen = (
        connection.execute("SELECT coalesce(sum(length(value)), 0) FROM quarantine").fetchone()[0],
        0,
    )
    for number, size in connection.execute("SELECT number, length(value) FROM quarantine ORDER BY number"):
        if total - seen <= bounds.bytes:
            break
        seen += size
        gone += connection.execute("DELETE FROM quarantine WHERE number = ?", (number,)).rowcount
    return gone

"""The embedded log: one SQLite file, one writer, any number of read-only readers.

Committed means on disk (`synchronous=FULL`, WAL). Only the writer checkpoints: readers open the file read-only.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.message import DecodeError
from sqlite_utils import Database

from feedback.log import Record, pack, key_of, topic_of
from heliotrope.errors import LogError, ResourceExhausted
from heliotrope.v1.events_pb2 import Event

SCHEMA_VERSION = 1
BUSY_SECONDS = 5.0


class SqliteLog:
    """`Log` in the SQLite file at `path`. Safe to use from several threads; calls are serialised."""

    def __init__(self, path: Path, *, read_only: bool = False):
        """Open, or (writer) make, the file. Raises LogError naming the path and the remedy."""
        self.path = path
        self._lock = threading.Lock()
        try:
            self._connection = _connect(path, read_only=read_only)
            if not read_only:
                _prepare(self._connection)
            _check_version(self._connection, path)
        except (sqlite3.Error, OSError) as error:
            raise LogError(f"the log {path} cannot be opened: {error}; is serving started, and the folder yours?") from error

    def append(self, events: Sequence[Event]) -> list[int]:
        """See `Log.append`."""
        rows = [(topic_of(event), key_of(event), event.event_id, pack(event)) for event in events]
        with self._lock:
            try:
                with self._connection:
                    return [self._put(row) for row in rows]
            except sqlite3.OperationalError as error:
                raise _explain(error, self.path) from error
            except sqlite3.Error as error:
                raise LogError(f"the log {self.path} cannot be written: {error}; check the file, restore a backup") from error

    def read(self, topic: str, after: int, limit: int) -> list[Record]:
        """See `Log.read`."""
        sql = "SELECT offset, value FROM events WHERE topic = ? AND offset > ? ORDER BY offset LIMIT ?"
        return [_record(topic, offset, value) for offset, value in self._query(sql, (topic, after, limit))]

    def find(self, event_id: str) -> Event | None:
        """See `Log.find`."""
        rows = self._query("SELECT topic, offset, value FROM events WHERE event_id = ?", (event_id,))
        return _record(*rows[0]).event if rows else None

    def end(self, topic: str) -> int:
        """See `Log.end`."""
        return self._query("SELECT coalesce(max(offset), 0) FROM events WHERE topic = ?", (topic,))[0][0]

    def count(self, topic: str) -> int:
        """Events in a topic."""
        return self._query("SELECT count(*) FROM events WHERE topic = ?", (topic,))[0][0]

    def close(self) -> None:
        """See `Log.close`."""
        with self._lock:
            self._connection.close()

    def _put(self, row: tuple[str, str, str, bytes]) -> int:
        sql = "INSERT INTO events (topic, key, event_id, value) VALUES (?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING"
        cursor = self._connection.execute(sql, row)
        if cursor.rowcount == 1:
            assert cursor.lastrowid is not None
            return cursor.lastrowid
        return self._connection.execute("SELECT offset FROM events WHERE event_id = ?", (row[2],)).fetchone()[0]

    def _query(self, sql: str, values: tuple) -> list[tuple]:
        with self._lock:
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise LogError(f"the log {self.path} cannot be read: {error}; check the file, restore a backup") from error


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if not read_only:
        path.parent.mkdir(parents=True, exist_ok=True)
    mode = "ro" if read_only else "rwc"
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    database = Database(connection)
    columns = {"offset": int, "topic": str, "key": str, "event_id": str, "value": bytes}
    table = database.table("events")
    table.create(columns, pk="offset", not_null=set(columns) - {"offset"}, if_not_exists=True)
    table.create_index(["event_id"], unique=True, if_not_exists=True)
    table.create_index(["topic", "offset"], if_not_exists=True)
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.commit()


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found != SCHEMA_VERSION:
        raise LogError(f"the log {path} has schema {found}, this program knows {SCHEMA_VERSION}; use the program that wrote it")


def _record(topic: str, offset: int, value: bytes) -> Record:
    try:
        return Record(topic, offset, Event.FromString(value))
    except DecodeError as error:
        return Record(topic, offset, None, f"not an event: {error}")


def _explain(error: sqlite3.OperationalError, path: Path) -> LogError | ResourceExhausted:
    if error.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
        return ResourceExhausted(f"no room to write the log {path}: {error}; free disk space, nothing was half written")
    return LogError(f"the log {path} cannot be written: {error}; check the disk and who else holds the file")

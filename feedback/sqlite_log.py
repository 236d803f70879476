"""The embedded log: one SQLite file, one writer, any number of read-only readers.

Committed means on disk (`synchronous=FULL`, WAL). One connection writes and checkpoints; every other one, in this
process or another, opens the file read-only, so that a read never waits for a commit.
"""

from __future__ import annotations

import fcntl
import logging
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sqlite_utils import Database

from feedback.log import LogFull, Positions, Record, key_of, pack, parse_event, place, topic_of
from heliotrope.errors import LogError
from heliotrope.failpoints import reach
from heliotrope.v1.events_pb2 import Event

logger = logging.getLogger(__name__)

_PUT = "INSERT INTO events (topic, key, event_id, crc, value) VALUES {} ON CONFLICT (event_id) DO NOTHING"
_OFFSET = "SELECT offset FROM events WHERE event_id = ?"
_GET = (
    "SELECT offset, event_id, crc, value FROM events WHERE topic = ? AND offset > ? ORDER BY offset LIMIT ?"
)
_FIND = "SELECT event_id, crc, value FROM events WHERE event_id = ?"

CHECKPOINT_BYTES, ROW_BYTES = 256 << 10, 4096
"""Bytes between two checkpoints; a row is taken for its value and one page. Commits wait for a checkpoint, so each is small; beside
commits none may run: before 3.51.3 SQLite can then lose what was committed (sqlite.org/wal.html, "the WAL-reset bug")."""
TOGETHER = 64
"""Rows of one statement. Each statement lets go of the interpreter's lock, and a busy program gives it back milliseconds
later: with a statement a row a commit of fifty events took a tenth of a second under load."""


def _create(database: Database) -> None:
    columns = {"offset": int, "topic": str, "key": str, "event_id": str, "value": bytes}
    table = database.table("events")
    table.create(columns, pk="offset", not_null=set(columns) - {"offset"}, if_not_exists=True)
    table.create_index(["event_id"], unique=True, if_not_exists=True)
    table.create_index(["topic", "offset"], if_not_exists=True)


def _add_checksum(database: Database) -> None:
    if "crc" not in database.table("events").columns_dict:
        database.table("events").add_column("crc", int)


MIGRATIONS = (_create, _add_checksum)
"""Migration i takes a file from `user_version` i to i + 1; never edited once released."""


class SqliteLog:
    """`Store` in the SQLite file at `path`, made with its folder unless `read_only`; partition 0 only. For any thread.

    A read-only log whose file is not there yet reads as empty, and finds it once serving has made it. Raises LogError
    when another process writes the file already, a newer program made it, or SQLite cannot use it.
    committed: called after each commit with how many events it brought.
    """

    def __init__(self, path: Path | str, read_only: bool = False) -> None:
        self.path = Path(path)
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._owner: TextIO | None = None
        self._closed, self._unmoved = False, 0
        self.committed: Callable[[int], None] = lambda count: None
        if not read_only:
            self._open_writer()

    def append(self, events: Sequence[Event]) -> list[int]:
        """See `Log.append` and `Store`."""
        rows = [(topic_of(event), key_of(event), event.event_id, pack(event)) for event in events]
        with self._write_lock, self._errors():
            if self._writer is None:
                raise LogError(
                    f"the log {self.path} is closed or open for reading only; only serving writes it"
                )
            with _transaction(self._writer) as connection:
                before = connection.total_changes
                offsets = [
                    offset
                    for start in range(0, len(rows), TOGETHER)
                    for offset in _put(connection, rows[start : start + TOGETHER])
                ]
                reach("before commit")
            self.committed(connection.total_changes - before)
            self._checkpoint(sum(len(value) + ROW_BYTES for *_, value in rows))
            return offsets

    def drop(self, offsets: Sequence[int]) -> list[int]:
        """Remove events; those that are gone. The newest of all stays, so that no offset is ever given twice."""
        with self._write_lock, self._errors():
            if self._writer is None:
                raise LogError(
                    f"the log {self.path} is closed or open for reading only; only serving writes it"
                )
            with _transaction(self._writer) as connection:
                newest = connection.execute("SELECT max(offset) FROM events").fetchone()[0]
                gone = [offset for offset in offsets if offset != newest]
                connection.executemany("DELETE FROM events WHERE offset = ?", [(offset,) for offset in gone])
            return gone

    def read(self, topic: str, after: Positions, limit: int) -> list[Record]:
        """See `Log.read`."""
        rows = self._query(_GET, (topic, after.get(place(topic), 0), limit))
        return [_record(topic, *row) for row in rows]

    def find(self, event_id: str) -> Event | None:
        """See `Store.find`."""
        rows = self._query(_FIND, (event_id,))
        return unpack(*rows[0])[0] if rows else None

    def among(self, event_ids: Sequence[str]) -> list[str]:
        """See `Store.among`."""
        places = ", ".join("?" * len(event_ids))
        rows = self._query(f"SELECT event_id FROM events WHERE event_id IN ({places})", tuple(event_ids))
        return [id for (id,) in rows]

    def end(self, topic: str) -> dict[str, int]:
        """See `Log.end`."""
        rows = self._query("SELECT coalesce(max(offset), 0) FROM events WHERE topic = ?", (topic,))
        return {place(topic): rows[0][0] if rows else 0}

    def count(self, topic: str) -> int:
        """See `Store.count`."""
        rows = self._query("SELECT count(*) FROM events WHERE topic = ?", (topic,))
        return rows[0][0] if rows else 0

    def close(self) -> None:
        """See `Log.close`."""
        with self._write_lock, self._read_lock, self._errors():
            self._closed = True
            for held in (
                self._reader,
                self._writer,
                self._owner,
            ):  # the writer checkpoints as the last to close
                if held is not None:
                    held.close()
            self._reader = self._writer = self._owner = None

    def _checkpoint(self, written: int) -> None:
        """Move what was written into the file every CHECKPOINT_BYTES, as far as readers let it. What cannot be moved stays
        in the write-ahead log, committed, for the next time."""
        self._unmoved += written
        if self._unmoved >= CHECKPOINT_BYTES and self._writer is not None:
            self._unmoved = 0
            reach("in a checkpoint")
            try:
                self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
            except sqlite3.Error as error:
                logger.warning("the log %s was committed and not moved into its file: %s", self.path, error)

    def _open_writer(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._owner = _own(self.path)
            with self._errors():
                self._writer = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
                self._writer.execute("PRAGMA journal_mode = WAL")
                self._writer.execute("PRAGMA synchronous = FULL")
                self._writer.execute("PRAGMA wal_autocheckpoint = 0")  # see _checkpoint
                _migrate(self._writer, self.path)
        except OSError as error:
            raise LogError(
                f"the log {self.path} cannot be opened: {error}; check the folder and its owner"
            ) from error
        except LogError:
            self.close()
            raise

    def _query(self, sql: str, values: tuple) -> list[tuple]:
        with self._read_lock, self._errors():
            if self._closed:
                raise LogError(f"the log {self.path} is closed; open it again to read it")
            if self._reader is None:
                self._reader = _open_reader(self.path)
            return [] if self._reader is None else self._reader.execute(sql, values).fetchall()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if name in ("SQLITE_FULL", "SQLITE_IOERR_WRITE"):
                raise LogFull(
                    f"no room to write the log {self.path}: {error}; free disk space, it then goes on; nothing was half written"
                ) from error
            raise LogError(
                f"the log {self.path} fails: {error} ({name}); check the disk, or restore a backup"
            ) from error


def _put(connection: sqlite3.Connection, rows: Sequence[tuple[str, str, str, bytes]]) -> list[int]:
    """The offset of each row (topic, key, event id, value); a known id keeps its first."""
    values = [
        v for topic, key, event_id, value in rows for v in (topic, key, event_id, zlib.crc32(value), value)
    ]
    cursor = connection.execute(_PUT.format(", ".join(["(?, ?, ?, ?, ?)"] * len(rows))), values)
    if cursor.rowcount == len(rows) and cursor.lastrowid is not None:
        return list(range(cursor.lastrowid - len(rows) + 1, cursor.lastrowid + 1))
    return [connection.execute(_OFFSET, (event_id,)).fetchone()[0] for _, _, event_id, _ in rows]


def unpack(event_id: str, crc: int | None, value: bytes) -> tuple[Event | None, str]:
    """The stored event, or None and why it cannot be read. Rows of the first file version have no checksum."""
    if not isinstance(value, bytes) or (crc is not None and zlib.crc32(value) != crc):
        return None, f"checksum: the bytes of event {event_id[:64]} are not those that were written"
    event, problem = parse_event(value)
    if event is not None and event.event_id != event_id:
        return None, f"unparsable: event {event_id[:64]} calls itself {event.event_id[:64]}"
    return event, problem and f"{problem}, stored as event {event_id[:64]}"


def _record(topic: str, offset: int, event_id: str, crc: int | None, value: bytes) -> Record:
    event, problem = unpack(event_id, crc, value)
    kept = b"" if event is not None else value if isinstance(value, bytes) else str(value).encode()
    return Record(topic, 0, offset, event, problem, kept)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All or nothing; SQLite itself may have rolled back already when it ran out of room."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise LogError(
            f"the log {path} has version {version}, this program knows {len(MIGRATIONS)}; use the newer program"
        )
    return version


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    for number, migration in enumerate(
        MIGRATIONS[_version(connection, path) :], _version(connection, path) + 1
    ):
        migration(Database(connection))
        connection.execute(f"PRAGMA user_version = {number}")


def _open_reader(path: Path) -> sqlite3.Connection | None:
    """A read-only connection, or None while the file, or its tables, are not there yet."""
    if not path.exists():
        return None
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        if _version(connection, path) == len(MIGRATIONS):
            return connection
    except (sqlite3.Error, LogError):
        connection.close()
        raise
    connection.close()
    return None


def _own(path: Path) -> TextIO:
    """Refuse a second writing process. A POSIX lock: gone with the process, and not inherited by its children."""
    file = path.with_name(path.name + ".lock").open("a")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise LogError(
            f"another process writes the log {path}; stop it, or give this one another paths.state"
        ) from error
    return file

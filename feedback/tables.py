"""The SQLite file of a derived store: its tables, one transaction at a time, and nothing deleted that stays readable."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feedback import quarantine
from heliotrope.errors import LogError

VERSION = 1
TABLES = """
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (place TEXT PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (
  number INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, person TEXT NOT NULL,
  subject TEXT NOT NULL, question TEXT NOT NULL, at REAL NOT NULL, place TEXT NOT NULL, offset INTEGER NOT NULL,
  value BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS facts_subject ON facts (subject) WHERE subject != '';
CREATE INDEX IF NOT EXISTS facts_question ON facts (question) WHERE question != '';
CREATE INDEX IF NOT EXISTS facts_at ON facts (at);
CREATE INDEX IF NOT EXISTS facts_person ON facts (person, kind);
CREATE TABLE IF NOT EXISTS targets (
  response_id TEXT NOT NULL, question TEXT NOT NULL, PRIMARY KEY (response_id, question)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS examples (
  id TEXT PRIMARY KEY, question TEXT NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL, held_out INTEGER NOT NULL,
  digest TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS examples_question ON examples (question);
CREATE INDEX IF NOT EXISTS examples_newest ON examples (at, id);
CREATE TABLE IF NOT EXISTS verdicts (
  question TEXT PRIMARY KEY, state TEXT NOT NULL, event_id TEXT NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS verdicts_pending ON verdicts (state) WHERE state = 'pending';
"""


class DerivedFile:
    """One connection to the file at `path`, made with its folder. Raises LogError when it cannot be used.

    `secure_delete` is on, so that what an erasure removes is overwritten and not only unlinked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
                self.connection.execute(f"PRAGMA {pragma}")
            self._create()
        except (OSError, sqlite3.Error) as error:
            raise LogError(
                f"the derived store {path} cannot be used: {error}; delete it, it is made again from the log"
            ) from error

    def _create(self) -> None:
        version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise LogError(
                f"the derived store {self.path} has version {version}, this program knows {VERSION}; "
                "use the newer program, or delete the file: it is made again from the log"
            )
        self.connection.executescript(TABLES + quarantine.TABLE)
        self.connection.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. Raises LogError naming what SQLite says; nothing is changed then."""
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise LogError(
                f"the derived store {self.path} fails: {error}; free disk space, or delete it: it is made again from the log"
            ) from error

    def note(self, name: str) -> str:
        """A remembered value; empty when there is none."""
        row = self.connection.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return row[0] if row else ""

    def set_note(self, name: str, value: str) -> None:
        """Remember a value, inside a transaction."""
        self.connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def truncate(self) -> bool:
        """Move the write-ahead log into the file and empty it: what was deleted is then nowhere on disk. False while
        somebody else reads the file."""
        try:
            return self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        except sqlite3.Error as error:
            raise LogError(
                f"the derived store {self.path} cannot be truncated: {error}; free disk space"
            ) from error

    def close(self) -> None:
        """Close; idempotent."""
        self.connection.close()

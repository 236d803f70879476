"""Checkpoints of the embedded log: beside commits, and small enough that the write-ahead log begins anew."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import feedback.checkpoints
from feedback.checkpoints import Checkpoints
from feedback.sqlite_log import SqliteLog
from tests.feedback.log_events import exchange, vote

LARGE = "x" * 500_000


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteLog]:
    monkeypatch.setattr(feedback.checkpoints, "CHECKPOINT_BYTES", 400_000)
    made = SqliteLog(tmp_path / "events.db")
    yield made
    made.close()


def moved(path: Path) -> bool:
    """Whether the file itself, read as if its write-ahead log were not there, has the pages of a large event."""
    return path.stat().st_size > len(LARGE)


def test_a_commit_does_not_wait_for_a_checkpoint(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(name: str) -> None:
        begun.set()
        assert go_on.wait(60)

    monkeypatch.setattr(feedback.checkpoints, "reach", hold)
    log.append([exchange("large", text=LARGE)])
    assert begun.wait(60)
    log.append([vote("meanwhile")])
    assert log.find("meanwhile") is not None and not moved(log.path)
    go_on.set()
    log._checkpoints.settle()
    assert moved(log.path)


def test_a_commit_waits_for_a_checkpoint_that_cannot_keep_up(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(name: str) -> None:
        begun.set()
        assert go_on.wait(60)

    monkeypatch.setattr(feedback.checkpoints, "reach", hold)
    log.append([exchange("large", text=LARGE)])
    assert begun.wait(60)
    log.append([exchange("as large", text=LARGE)])
    settle, waited = Checkpoints.settle, []

    def waits(checkpoints: Checkpoints) -> None:
        waited.append(log.find("next"))
        go_on.set()
        settle(checkpoints)

    monkeypatch.setattr(Checkpoints, "settle", waits)
    log.append([vote("next")])
    assert waited == [None] and log.find("next") is not None
    assert moved(log.path)


def test_after_a_checkpoint_the_write_ahead_log_begins_anew(log: SqliteLog, tmp_path: Path) -> None:
    def size() -> int:
        return (tmp_path / "events.db-wal").stat().st_size

    log.append([exchange("first", text=LARGE)])
    log._checkpoints.settle()
    grown = size()
    log.append([vote("small")])
    assert size() == grown, "written over what was moved"


def test_what_a_reader_holds_back_is_committed_and_moved_the_next_time(log: SqliteLog) -> None:
    reader = sqlite3.connect(f"{log.path.as_uri()}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchone()
    log.append([exchange("held back", text=LARGE)])
    log._checkpoints.settle()
    assert log.find("held back") is not None and not moved(log.path)
    reader.close()
    log.append([exchange("next", text=LARGE)])
    log._checkpoints.settle()
    assert moved(log.path)


def test_a_checkpoint_that_fails_is_said_and_loses_nothing(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(feedback.checkpoints.sqlite3, "connect", refuse)
        log.append([exchange("kept", text=LARGE)])
        log._checkpoints.settle()
    assert "was committed and not moved into its file: disk I/O error" in caplog.text
    assert log.find("kept") is not None
    log.append([exchange("next", text=LARGE)])
    log._checkpoints.settle()
    assert moved(log.path)

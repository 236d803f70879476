"""What SQLite adds to the contract: other processes, full disks, spoiled rows, versions of the file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlite_utils import Database

from feedback.log import LogFull
from feedback.sqlite_log import MIGRATIONS, SqliteLog
from heliotrope.errors import LogError, ResourceExhausted
from tests.feedback.log_events import exchange, newest, vote

READER = """
import sys
from feedback.sqlite_log import SqliteLog
log = SqliteLog(sys.argv[1], read_only=True)
print("ready", flush=True)
for line in sys.stdin:
    print(log.end("feedback")["feedback/0"], *[r.event.event_id for r in log.read("feedback", {"feedback/0": int(line)}, 100)], flush=True)
"""


def test_a_reader_in_another_process_sees_what_is_committed_while_the_writer_writes(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    command = [sys.executable, "-c", READER, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as reader:
        assert reader.stdin is not None and reader.stdout is not None

        def ask(after: int) -> str:
            reader.stdin.write(f"{after}\n")  # type: ignore[union-attr]
            return reader.stdout.readline().strip()  # type: ignore[union-attr]

        assert reader.stdout.readline() == "ready\n"
        assert ask(0) == "0", "no file yet: the reader waits for the writer, it does not fail"
        log = SqliteLog(path)
        assert ask(0) == "0"
        for i in range(1, 51):
            log.append([vote(f"v{i}")])
            assert ask(i - 1) == f"{i} v{i}"
        log.close()
        assert ask(49) == "50 v50", "and goes on after the writer has left"
        reader.stdin.close()
    assert reader.returncode == 0


def test_a_reader_that_comes_after_the_writer_left_reads_all(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "events.db")
    log.append([vote("a")])
    log.close()
    reader = SqliteLog(tmp_path / "events.db", read_only=True)
    assert newest(reader, "feedback") == 1
    reader.close()


def test_a_read_only_log_refuses_to_write(tmp_path: Path) -> None:
    SqliteLog(tmp_path / "events.db").close()
    with pytest.raises(LogError, match="reading only"):
        SqliteLog(tmp_path / "events.db", read_only=True).append([vote("a")])


def test_a_second_writing_process_is_refused(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "events.db")
    code = "import sys; from feedback.sqlite_log import SqliteLog; SqliteLog(sys.argv[1])"
    second = subprocess.run(
        [sys.executable, "-c", code, str(log.path)], capture_output=True, text=True, check=False
    )
    assert second.returncode == 1 and "another process writes" in second.stderr
    log.close()
    third = subprocess.run(
        [sys.executable, "-c", code, str(log.path)], capture_output=True, text=True, check=False
    )
    assert third.returncode == 0, third.stderr


def test_commits_wait_for_the_disk_in_wal_mode(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "events.db")
    assert log._writer is not None
    assert log._writer.execute("pragma synchronous").fetchone() == (2,)  # 2: FULL
    assert log._writer.execute("pragma journal_mode").fetchone() == ("wal",)
    log.close()


def test_a_repeat_is_dropped_and_yields_the_first_offset(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "events.db")
    first, second = log.append([vote("a"), vote("b")])
    again = vote("a")
    again.feedback_given.feedback.thumb.up = False
    repeated, third = log.append([again, vote("c")])
    assert repeated == first and third > second
    kept = log.find("a")
    assert kept is not None and kept.feedback_given.feedback.thumb.up is True
    assert [r.offset for r in log.read("feedback", {}, 9)] == [first, second, third]
    assert log.find("no such event") is None
    log.close()


def test_a_repeat_inside_one_batch_is_dropped_too(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "events.db")
    a1, a2, b, a3 = log.append([vote("a"), vote("a"), vote("b"), vote("a")])
    assert a1 == a2 == a3 < b
    assert [r.offset for r in log.read("feedback", {}, 10)] == [a1, b]
    log.close()


def test_checkpoints_keep_the_write_ahead_file_small(tmp_path: Path) -> None:
    """40 events of 0.5 MB in commits of their own: a checkpoint after each leaves far less than the 20 MB written."""
    log = SqliteLog(tmp_path / "events.db")
    for i in range(40):
        log.append([exchange(f"e{i}", text="x" * 500_000)])
    assert (tmp_path / "events.db-wal").stat().st_size < 2 << 20
    assert log.count("exchanges") == 40
    log.close()


def test_a_full_disk_refuses_the_whole_batch_and_the_log_goes_on_when_space_returns(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "events.db")
    log.append([vote("before")])
    assert log._writer is not None
    pages = log._writer.execute("pragma page_count").fetchone()[0]
    log._writer.execute(f"pragma max_page_count = {pages + 10}")
    batch = [vote("small"), *(exchange(f"e{i}", text="x" * 20_000) for i in range(10))]
    with pytest.raises(LogFull, match="free disk space") as refused:
        log.append(batch)
    assert isinstance(refused.value, LogError) and isinstance(refused.value, ResourceExhausted)
    assert log.find("small") is None and newest(log, "exchanges") == 0 and newest(log, "feedback") == 1
    assert log.append([vote("fits")]) == [newest(log, "feedback")], "what fits is still taken"
    log._writer.execute("pragma max_page_count = 1000000")
    assert len(set(log.append(batch))) == 11 and log.count("exchanges") == 10
    log.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("value = x'ffffffff'", "checksum"),
        ("value = substr(value, 1, 5)", "checksum"),
        ("value = x'ff', crc = 4278190080", "unparsable: 1 bytes that are no event"),
        ("value = x'', crc = 0", "no_id: "),
        ("value = 'text'", "checksum"),
    ],
)
def test_a_spoiled_row_is_read_as_a_record_without_event_and_does_not_block_the_others(
    tmp_path: Path, change: str, reason: str
) -> None:
    log = SqliteLog(tmp_path / "events.db")
    log.append([vote("a"), vote("b"), vote("c")])
    log.close()
    with sqlite3.connect(tmp_path / "events.db") as connection:
        connection.execute(f"update events set {change} where event_id = 'b'")
    connection.close()
    log = SqliteLog(tmp_path / "events.db", read_only=True)
    records = log.read("feedback", {}, 10)
    assert [r.offset for r in records] == [1, 2, 3]
    assert [r.event and r.event.event_id for r in records] == ["a", None, "c"]
    assert reason in records[1].problem and "event b" in records[1].problem
    assert log.find("b") is None
    log.close()


def test_a_file_that_is_no_database_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(LogError, match="restore a backup"):
        SqliteLog(tmp_path / "events.db")
    with pytest.raises(LogError, match="restore a backup"):
        SqliteLog(tmp_path / "events.db", read_only=True).end("feedback")


def test_a_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    SqliteLog(tmp_path / "events.db").close()
    with sqlite3.connect(tmp_path / "events.db") as connection:
        assert connection.execute("pragma user_version").fetchone() == (2,)
        connection.execute("pragma user_version = 99")
    connection.close()
    for read_only in (False, True):
        with pytest.raises(LogError, match="version 99.*knows 2.*newer program"):
            SqliteLog(tmp_path / "events.db", read_only=read_only).end("feedback")


def test_offsets_go_on_after_a_restart(tmp_path: Path) -> None:
    for i in range(1, 4):
        log = SqliteLog(tmp_path / "events.db")
        assert log.append([vote(f"v{i}")]) == [i]
        log.close()


def test_a_file_of_the_first_version_is_read_and_gets_checksums_from_now_on(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    old = sqlite3.connect(path)
    MIGRATIONS[0](Database(old))
    old.execute("pragma user_version = 1")
    row = ("feedback", "c1", "a", vote("a").SerializeToString())
    old.execute("insert into events (topic, key, event_id, value) values (?, ?, ?, ?)", row)
    old.commit()
    old.close()
    log = SqliteLog(path)
    log.append([vote("b")])
    assert [r.event for r in log.read("feedback", {}, 9)] == [vote("a"), vote("b")]
    log.close()

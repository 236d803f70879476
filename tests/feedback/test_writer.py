"""Group commit: what is acknowledged is durable, in order, bounded, and every waiter hears of its own outcome."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from feedback.log import Event, EventTooLarge, Positions
from feedback.sqlite_log import SqliteLog
from feedback.writer import LogWriter
from heliotrope.errors import LogError, ResourceExhausted, Unavailable
from heliotrope.v1 import events_pb2
from tests.feedback.log_events import exchange, newest, vote
from tests.waiting import until_async


class GatedLog(SqliteLog):
    """A log whose commits wait for `gate`, or by number for their own, fail with `error` or when `broken` is their number, and
    are noted batch by batch."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.error: LogError | None = None
        self.batches: list[list[str]] = []
        self.appends = 0
        self.gates: dict[int, threading.Event] = {}
        self.broken: int | None = None

    def append(self, events: Sequence[Event]) -> list[int]:
        number = self.appends
        self.appends += 1
        self.entered.set()
        assert self.gates.get(number, self.gate).wait(10)
        if self.error is not None or number == self.broken:
            raise self.error or LogError("the disk is gone")
        self.batches.append([e.event_id for e in events])
        return super().append(events)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[GatedLog]:
    made = GatedLog(tmp_path / "events.db")
    yield made
    made.gate.set()
    made.close()


@pytest.fixture
def writer(log: GatedLog) -> Iterator[LogWriter]:
    made = LogWriter(log, capacity=10, clock=lambda: 1_700_000_000.5)
    yield made
    log.gate.set()
    made.stop()


async def test_what_is_awaited_can_be_read_by_another_connection(log: GatedLog, writer: LogWriter) -> None:
    (offset,) = await writer.append([vote("a")])
    reader = SqliteLog(log.path, read_only=True)
    assert [(r.offset, r.event and r.event.event_id) for r in reader.read("feedback", {}, 9)] == [
        (offset, "a")
    ]
    reader.close()


async def test_unset_stamps_are_filled_and_set_ones_kept(log: GatedLog, writer: LogWriter) -> None:
    await writer.append([vote("a")])
    stamped = vote("b")
    stamped.producer_id, stamped.sequence, stamped.schema = "elsewhere", 7, 3
    stamped.time.FromSeconds(5)
    await writer.append([stamped])
    first, second = log.read("feedback", {}, 9)
    a, b = (
        first.event,
        events_pb2.Event.FromString(second.value),
    )  # of a schema to come: kept, though not read
    assert a is not None
    assert (a.producer_id, a.sequence, a.schema) == (writer.producer_id, 1, 1)
    assert a.time.ToNanoseconds() == 1_700_000_000_500_000_000
    assert (b.producer_id, b.sequence, b.schema, b.time.seconds) == ("elsewhere", 7, 3, 5)


async def test_sequences_rise_from_1_without_gaps_in_the_order_of_the_calls(
    log: GatedLog, writer: LogWriter
) -> None:
    await asyncio.gather(*(writer.append([vote(f"v{i}")]) for i in range(10)))
    stored = [r.event for r in log.read("feedback", {}, 99) if r.event]
    assert [(e.event_id, e.sequence) for e in stored] == [(f"v{i}", i + 1) for i in range(10)]


async def test_events_that_wait_together_share_one_commit(log: GatedLog, writer: LogWriter) -> None:
    log.gate.clear()
    first = asyncio.create_task(writer.append([vote("first")]))
    await until_async(log.entered.is_set)
    others = [asyncio.create_task(writer.append([vote(f"v{i}")])) for i in range(5)]
    await until_async(lambda: len(writer._queue) == 5)
    log.gate.set()
    await asyncio.gather(first, *others)
    assert log.batches == [["first"], ["v0", "v1", "v2", "v3", "v4"]]


async def test_beyond_the_bound_an_event_is_refused_and_what_waits_is_kept(
    log: GatedLog, writer: LogWriter
) -> None:
    log.gate.clear()
    first = asyncio.create_task(writer.append([vote("first")]))
    await until_async(lambda: log.entered.is_set() and not writer._queue)
    waiting = asyncio.create_task(writer.append([vote(f"v{i}") for i in range(10)]))
    await until_async(lambda: len(writer._queue) == 10)
    with pytest.raises(ResourceExhausted, match="10 events wait for the log, which takes 10"):
        await writer.append([vote("one too many")])
    log.gate.set()
    assert len({*await first, *await waiting}) == 11
    assert log.find("one too many") is None


async def test_a_failed_batch_is_told_to_each_waiter_and_the_next_one_succeeds(
    log: GatedLog, writer: LogWriter
) -> None:
    log.gate.clear()
    first = asyncio.create_task(writer.append([vote("first")]))
    await until_async(lambda: log.entered.is_set() and not writer._queue)
    others = [asyncio.create_task(writer.append([vote(f"v{i}")])) for i in range(3)]
    await until_async(lambda: len(writer._queue) == 3)
    log.error = LogError("the disk is gone")
    log.gate.set()
    outcomes = await asyncio.gather(first, *others, return_exceptions=True)
    assert [str(o) for o in outcomes] == ["the disk is gone"] * 4
    log.error = None
    assert await writer.append([vote("v0")]) == [newest(log, "feedback")]


async def test_a_call_over_two_batches_is_told_once_both_are_durable(log: GatedLog) -> None:
    writer, log.gates = LogWriter(log, batch=3), {1: threading.Event()}
    call = asyncio.create_task(writer.append([vote(f"v{i}") for i in range(5)]))
    await until_async(lambda: log.appends == 2)
    await asyncio.sleep(0)
    assert log.count("feedback") == 3 and not call.done()
    log.gates[1].set()
    assert await call == [1, 2, 3, 4, 5] and [len(batch) for batch in log.batches] == [3, 2]
    writer.stop()


@pytest.mark.parametrize(("broken", "kept"), [(0, ["v3", "v4"]), (1, ["v0", "v1", "v2"])])
async def test_a_call_over_two_batches_fails_with_either(log: GatedLog, broken: int, kept: list[str]) -> None:
    writer, log.broken = LogWriter(log, batch=3), broken
    with pytest.raises(LogError, match="the disk is gone"):
        await writer.append([vote(f"v{i}") for i in range(5)])
    assert log.batches == [kept]
    writer.stop()


async def test_whoever_waits_is_told_when_the_log_answers_for_fewer_than_it_was_given(
    log: GatedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "append", lambda events: [1])
    monkeypatch.setattr(threading, "excepthook", lambda told: None)
    writer = LogWriter(log)
    with pytest.raises(LogError, match="ended unexpectedly; restart serving"):
        await writer.append([vote("a"), vote("b")])
    writer.stop()  # the thread ends while its exception is still expected


async def test_a_bad_event_fails_its_own_caller_only(log: GatedLog, writer: LogWriter) -> None:
    good, bad = await asyncio.gather(
        writer.append([vote("good")]),
        writer.append([exchange("bad", "x" * 1_000_000)]),
        return_exceptions=True,
    )
    assert isinstance(bad, EventTooLarge) and good == [newest(log, "feedback")]
    assert await writer.append([vote("next")]) and getattr(log.find("next"), "sequence", 0) == 2, (
        "no number is burned"
    )


async def test_a_repeat_gets_the_first_offset(writer: LogWriter) -> None:
    assert await writer.append([vote("a")]) == await writer.append([vote("a")])


async def test_a_cancelled_wait_does_not_take_the_event_back(log: GatedLog, writer: LogWriter) -> None:
    log.gate.clear()
    task = asyncio.create_task(writer.append([vote("a")]))
    await until_async(log.entered.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    log.gate.set()
    await until_async(lambda: log.find("a") is not None)


async def test_stop_writes_what_waits_and_then_refuses(log: GatedLog) -> None:
    writer = LogWriter(log)
    call = asyncio.create_task(writer.append([vote(f"v{i}") for i in range(2000)]))
    await asyncio.sleep(0)
    writer.stop()
    assert log.count("feedback") == 2000 and len(set(await call)) == 2000
    with pytest.raises(Unavailable, match="has stopped"):
        await writer.append([vote("late")])
    writer.stop()


CHILD = """
import asyncio, sys
from feedback.sqlite_log import SqliteLog
from feedback.writer import LogWriter
from heliotrope.v1 import events_pb2
from tests.feedback.log_events import vote

async def person(writer, name):
    i = 0
    while True:
        await writer.append([vote(f"{name}-{i}")])
        print(f"{name}-{i}", flush=True)
        i += 1

async def main():
    writer = LogWriter(SqliteLog(sys.argv[1]))
    await asyncio.gather(*(person(writer, f"{sys.argv[2]}-{n}") for n in range(8)))

asyncio.run(main())
"""


def kill_while_it_writes(path: Path, name: str, after: int) -> list[str]:
    """SIGKILL a process that writes with 8 callers at once, once it has acknowledged `after`; all it acknowledged."""
    command = [sys.executable, "-c", CHILD, str(path), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline().strip() for _ in range(after)]
        child.kill()
        whole = child.stdout.read().rpartition("\n")[0]
    assert child.returncode == -9
    return acknowledged + whole.split()


def written(path: Path, after: Positions) -> set[str]:
    """Ids of the votes past a position."""
    log = SqliteLog(path, read_only=True)
    found = {r.event.event_id for r in log.read("feedback", after, 1_000_000) if r.event}
    log.close()
    return found


def end_of(path: Path) -> Positions:
    """The position of the last vote."""
    log = SqliteLog(path, read_only=True)
    end = log.end("feedback")
    log.close()
    return end


@pytest.mark.parametrize("kills", [8, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_nothing_acknowledged_is_lost_when_the_writing_process_is_killed(tmp_path: Path, kills: int) -> None:
    chance, path, told, end = random.Random(7), tmp_path / "events.db", set[str](), dict[str, int]()
    for number in range(kills):
        fresh = set(kill_while_it_writes(path, f"run{number}", chance.randint(1, 300)))
        missing = fresh - written(path, end)
        assert not missing, f"lost after kill {number}: {sorted(missing)[:5]}"
        told, end = told | fresh, end_of(path)
    assert told <= written(path, {}), "what an early run was told outlives the later kills"
    assert len(told) > kills * 50, "the kills came while it wrote"


async def test_a_batch_wakes_its_event_loop_once(
    log: GatedLog, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, woken = asyncio.get_running_loop(), []
    log.gate.clear()
    first = asyncio.create_task(writer.append([vote("first")]))
    await until_async(log.entered.is_set)
    rest = [asyncio.create_task(writer.append([vote(f"v{i}")])) for i in range(9)]
    await asyncio.sleep(0)
    whole = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *told: (woken.append(told), whole(*told))[1])
    log.gate.set()
    assert [await task for task in (first, *rest)] == [[offset] for offset in range(1, 11)]
    assert [len(batch) for batch in log.batches] == [1, 9] and len(woken) == 2

"""What every `Log` promises; each implementation is a parameter of `log`.

With KAFKA_BOOTSTRAP_SERVERS set, Kafka's part runs against that broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback.kafka_client import Broker
from feedback.kafka_log import KafkaLog
from feedback.log import MAX_BYTES, TOPICS, Log
from feedback.sqlite_log import SqliteLog
from heliotrope.errors import InvalidInput
from heliotrope.v1 import events_pb2
from tests.feedback.broker import settings
from tests.feedback.log_events import exchange, newest, vote


@pytest.fixture(params=["sqlite", "kafka"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    if request.param == "sqlite":
        made: Log = SqliteLog(tmp_path / "events.db")
    else:
        at = settings(request.getfixturevalue("kafka_address"))
        made, broker = KafkaLog(at), Broker(at)
        broker.ensure_topics()
        broker.close()
    yield made
    made.close()


def test_an_empty_log_has_nothing(log: Log) -> None:
    assert [newest(log, topic) for topic in TOPICS] == [0, 0, 0]
    assert log.read("feedback", {}, 10) == []
    assert log.append([]) == []


def test_offsets_rise_in_each_topic(log: Log) -> None:
    policy = events_pb2.Event(event_id="p")
    policy.policy_state_changed.epoch = 1
    given = log.append([exchange("a"), vote("b"), exchange("c"), policy, vote("d")])
    assert [r.offset for r in log.read("exchanges", {}, 9)] == [given[0], given[2]]
    assert [r.offset for r in log.read("feedback", {}, 9)] == [given[1], given[4]]
    assert 0 < given[0] < given[2] and 0 < given[1] < given[4]
    assert [newest(log, topic) for topic in TOPICS] == [given[2], given[4], given[3]]


def test_reading_goes_on_after_a_position_and_stops_at_the_limit(log: Log) -> None:
    log.append([exchange(f"e{i}", text=str(i)) for i in range(5)])
    first = log.read("exchanges", {}, 2)
    rest = log.read("exchanges", {first[-1].place: first[-1].offset}, 10)
    assert [r.event.response_served.text for r in (*first, *rest) if r.event] == ["0", "1", "2", "3", "4"]
    assert len(first) == 2 and log.read("exchanges", {rest[-1].place: rest[-1].offset}, 10) == []


def test_what_is_read_equals_what_was_written(log: Log) -> None:
    event = exchange("a", text="naïve – 日本語 \0 text")
    event.response_served.prompt_token_ids.extend([0, 49151])
    log.append([event])
    assert log.read("exchanges", {}, 1)[0].event == event


def test_what_is_too_large_is_refused_with_both_sizes_and_nothing_of_its_batch_is_written(log: Log) -> None:
    room = MAX_BYTES - exchange("b", text="x" * 500_000).ByteSize() + 500_000
    with pytest.raises(InvalidInput, match=r"921,601 bytes and the log takes at most 921,600 \(900 KiB\)"):
        log.append([vote("a"), exchange("b", text="x" * (room + 1))])
    assert newest(log, "feedback") == newest(log, "exchanges") == 0
    assert log.append([exchange("b", text="x" * room)]) == [newest(log, "exchanges")]


def test_an_event_without_id_or_content_is_refused(log: Log) -> None:
    with pytest.raises(InvalidInput, match="no event_id"):
        log.append([vote("")])
    with pytest.raises(InvalidInput, match="no content"):
        log.append([events_pb2.Event(event_id="a")])
    assert newest(log, "feedback") == 0


def test_many_threads_append_at_once_and_every_offset_is_given_once(log: Log) -> None:
    offsets: list[int] = []

    def work(name: int) -> None:
        for i in range(20):
            offsets.extend(log.append([vote(f"{name}-{i}")]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(offsets)) == 100
    assert [r.offset for r in log.read("feedback", {}, 1000)] == sorted(offsets)


def test_closing_twice_is_harmless_and_keeps_what_was_written(log: Log) -> None:
    log.append([vote("a")])
    log.close()
    log.close()
    again = SqliteLog(log.path) if isinstance(log, SqliteLog) else KafkaLog(log.settings)  # type: ignore[attr-defined]
    assert [r.event.event_id for r in again.read("feedback", {}, 9) if r.event] == ["a"]
    again.close()

"""Quarantine: once a place, bounded in age and size, and looked at again when a program knows more."""

from __future__ import annotations

from pathlib import Path

from feedback.join import Joiner
from feedback.log import FEEDBACK, Record
from feedback.quarantine import WHOLE_BYTES, Bounds
from feedback.training_set import Retention, TrainingSet
from heliotrope.v1.events_pb2 import Event
from tests.feedback.join_events import compared, pair

DAY = 86_400.0


class Clock:
    """Says what it is told."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def opened(path: Path, clock: Clock, bounds: Bounds | None = None) -> TrainingSet:
    retention = Retention(quarantine=bounds or Bounds())
    return TrainingSet(path / "a.db", lambda: Joiner(("human",), 0.0), "r", clock, retention)


def bad(offset: int, size: int = 100) -> Record:
    return Record(FEEDBACK, 0, offset, None, "unparsable: no event", b"\xff" * size)


def test_a_record_read_twice_is_kept_once_and_positions_go_on(tmp_path: Path) -> None:
    kept = opened(tmp_path, Clock(DAY))
    kept.take([bad(1), bad(2)])
    kept.take([bad(2), bad(3)])
    assert [q.offset for q in kept.quarantined(10)] == [3, 2, 1] and kept.positions == {"feedback/0": 3}
    assert kept.quarantine_counts() == {"unparsable": 3}
    assert [q.offset for q in kept.quarantined(1, before=3)] == [2]
    kept.close()


def test_after_fourteen_days_a_record_goes(tmp_path: Path) -> None:
    clock = Clock(100 * DAY)
    kept = opened(tmp_path, clock)
    kept.take([bad(1)])
    clock.now += 13 * DAY
    kept.take([bad(2)])
    kept.settle()
    assert len(kept.quarantined(10)) == 2
    clock.now += 2 * DAY
    kept.settle()
    assert [q.offset for q in kept.quarantined(10)] == [2]
    kept.close()


def test_beyond_the_bound_the_oldest_go(tmp_path: Path) -> None:
    kept = opened(tmp_path, Clock(DAY), Bounds(bytes=250))
    kept.take([bad(1), bad(2), bad(3)])
    kept.settle()
    assert [q.offset for q in kept.quarantined(10)] == [3, 2]
    kept.close()


def test_of_a_large_record_a_glimpse_and_the_size_are_kept(tmp_path: Path) -> None:
    kept = opened(tmp_path, Clock(DAY))
    kept.take([bad(1, WHOLE_BYTES + 1)])
    (found,) = kept.quarantined(1)
    assert found.size == WHOLE_BYTES + 1 and len(found.value) == 1024 and not found.whole
    kept.close()


def test_what_came_from_the_future_is_taken_in_once_its_time_has_come(tmp_path: Path) -> None:
    clock = Clock(DAY)
    kept = opened(tmp_path, clock)
    ends = [Record("exchanges", 0, i, event) for i, event in enumerate(pair(), 1)]
    kept.take([*ends, Record(FEEDBACK, 0, 1, compared("v", "A", at=9 * DAY)), bad(2)])
    assert kept.quarantine_counts() == {"time_out_of_range": 1, "unparsable": 1}
    clock.now = 10 * DAY
    assert kept.retry() == (1, 1)
    assert [e.id for e in kept.examples()] == ["v"] and kept.quarantine_counts() == {"unparsable": 1}
    kept.close()


def test_what_came_sealed_is_not_taken_for_erased(tmp_path: Path) -> None:
    kept = opened(tmp_path, Clock(DAY))
    event = compared("v", "A")
    event.sealed = b"key and text"
    kept.take([Record(FEEDBACK, 0, 1, None, "other_schema: schema 2", event.SerializeToString())])
    assert kept.retry() == (0, 1)
    assert kept.facts.erased_among(iter(["v"])) == []
    kept.close()


def test_an_event_in_quarantine_is_the_one_that_was_read(tmp_path: Path) -> None:
    kept, event = opened(tmp_path, Clock(DAY)), compared("v", "A", at=9 * DAY)
    kept.take([Record(FEEDBACK, 0, 1, event)])
    (found,) = kept.quarantined(1)
    assert Event.FromString(found.value) == event and found.whole and found.event_id == "v"
    kept.close()


def test_an_erasure_takes_what_could_not_be_used_of_this_person_and_nobody_elses(tmp_path: Path) -> None:
    kept, event = opened(tmp_path, Clock(DAY)), compared("v", "A", at=9 * DAY)
    other = compared("w", "A", at=9 * DAY)
    other.user = "somebody else"
    kept.take([Record(FEEDBACK, 0, 1, event), Record(FEEDBACK, 0, 2, other)])
    erasure = Event(event_id="e", tenant=event.tenant, user=event.user)
    erasure.erasure_requested.erasure_id, erasure.erasure_requested.user = "e", event.user
    kept.take([Record(FEEDBACK, 0, 3, erasure)])
    assert [q.event_id for q in kept.quarantined(10)] == ["w"]
    kept.close()

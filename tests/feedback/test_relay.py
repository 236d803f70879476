"""Outbox and relay against a link that does what the test says: order, window, marks, quarantine, rewind, bounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback.log import Event
from feedback.outbox import DAY, Outbox, OutboxFull, Row
from feedback.relay_session import Done, Failed, Refused, Sent, Session
from feedback.sqlite_log import SqliteLog
from heliotrope.errors import LogError
from heliotrope.settings.log import Outbox as Settings
from tests.feedback.log_events import exchange, vote


class Wire:
    """Holds what was sent until the test answers."""

    def __init__(self) -> None:
        self.sent: list[tuple[Row, Done]] = []
        self.positions = 0

    def __call__(self, row: Row, done: Done) -> None:
        self.sent.append((row, done))

    @property
    def names(self) -> list[str]:
        return [row.event_id for row, _ in self.sent]

    def answer(self, name: str, outcome: Sent | Refused | Failed | None = None) -> None:
        """Say of a row what became of it; with nothing said, that it has the next position."""
        index = self.names.index(name)
        row, done = self.sent.pop(index)
        self.positions += 1
        done(row, outcome or Sent(0, self.positions))


class Clock:
    now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    made = SqliteLog(tmp_path / "events.db")
    yield made
    made.close()


@pytest.fixture
def outbox(log: SqliteLog, tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(log, str(tmp_path / "relay.db"), Settings(window=3, max_events=5), Clock())
    yield made
    made.close()


def of(key: str, name: str) -> Event:
    event = vote(name)
    event.conversation_id = key
    return event


def session_of(outbox: Outbox, wire: Wire, patience: float = 60) -> Session:
    made = Session(outbox, wire, patience)
    for topic in ("exchanges", "feedback", "policy"):
        made.meet(topic, "first", rewind=False)
    return made


def waiting(outbox: Outbox) -> list[str]:
    return [row.event_id for row in outbox.waiting(0, 100)]


def test_one_of_each_key_is_on_its_way_and_the_next_follows_its_mark(log: SqliteLog, outbox: Outbox) -> None:
    wire = Wire()
    session = session_of(outbox, wire)
    log.append([of("x", "x1"), of("x", "x2"), of("y", "y1")])
    session.step()
    assert wire.names == ["x1", "y1"]
    wire.answer("x1")
    session.step()
    assert (wire.names, waiting(outbox)) == (["y1", "x2"], ["x2", "y1"])


def test_no_more_than_the_window_is_on_its_way(log: SqliteLog, outbox: Outbox) -> None:
    wire = Wire()
    session = session_of(outbox, wire)
    log.append([of(f"k{i}", f"e{i}") for i in range(5)])
    session.step()
    session.step()
    assert wire.names == ["e0", "e1", "e2"]


def test_a_row_is_marked_on_its_own_success_and_on_nobody_elses(log: SqliteLog, outbox: Outbox) -> None:
    wire = Wire()
    session = session_of(outbox, wire)
    log.append([of("x", "x1"), of("y", "y1")])
    session.step()
    wire.answer("y1")
    session.step()
    assert (waiting(outbox), outbox.depth) == (["x1"], 1)


def test_a_failed_send_ends_the_session_and_the_next_one_sends_what_is_not_marked(
    log: SqliteLog, outbox: Outbox
) -> None:
    wire = Wire()
    session = session_of(outbox, wire)
    log.append([of("x", "x1"), of("y", "y1")])
    session.step()
    wire.answer("y1")
    wire.answer("x1", Failed("the line broke"))
    with pytest.raises(LogError, match="x1: the line broke"):
        session.step()
    again = Wire()
    session_of(outbox, again).step()
    assert again.names == ["x1"]


def test_a_send_without_an_outcome_is_given_up(log: SqliteLog, outbox: Outbox) -> None:
    session = session_of(outbox, Wire(), patience=0.01)
    log.append([vote("a")])
    with pytest.raises(LogError, match="not answered"):
        session.step()


def test_a_refused_row_is_tried_alone_then_quarantined_and_frees_its_key(
    log: SqliteLog, outbox: Outbox
) -> None:
    wire = Wire()
    session = session_of(outbox, wire)
    log.append([of("x", "bad"), of("x", "x2"), of("y", "y1")])
    session.step()
    wire.answer("bad", Refused("too large"))
    session.step()
    assert wire.names == ["y1"], "not while others are on their way"
    wire.answer("y1")
    session.step()
    session.step()
    assert wire.names == ["bad"]
    wire.answer("bad", Refused("too large"))
    session.step()
    assert (wire.names, outbox.quarantined(), outbox.depth) == (["x2"], [("bad", "too large")], 1)


def test_nothing_joins_a_row_that_is_tried_alone(log: SqliteLog, outbox: Outbox) -> None:
    wire = Wire()
    session = session_of(outbox, wire)
    log.append([of("x", "bad")])
    session.step()
    wire.answer("bad", Refused("too large"))
    session.step()
    session.step()
    assert wire.names == ["bad"]
    log.append([of("y", "y1")])
    session.step()
    assert wire.names == ["bad"]
    wire.answer("bad")
    session.step()
    session.step()
    assert (wire.names, outbox.refused()) == (["y1"], 0)


def test_a_refused_move_of_a_version_holds_up_those_after_it_and_nothing_else(
    log: SqliteLog, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    wire = Wire()
    session = session_of(outbox, wire)
    moves = [Event(event_id=f"move{i}") for i in (1, 2)]
    for move in moves:
        move.policy_state_changed.policy_version = "policy-v1"
    log.append(moves)
    for _ in range(2):
        session.step()
        wire.answer("move1", Refused("too large"))
        session.step()
    log.append([of("x", "x1")])
    session.step()
    assert (wire.names, outbox.refused(), outbox.depth) == (["x1"], 0, 3)
    assert "does not take event move1 of a version, and waits for it" in caplog.text


def test_what_the_broker_refused_is_sent_once_more_when_asked_for(log: SqliteLog, outbox: Outbox) -> None:
    wire = Wire()
    session = session_of(outbox, wire)
    log.append([of("x", "bad"), of("y", "y1")])
    session.step()
    wire.answer("y1")
    wire.answer("bad", Refused("too large"))
    session.step()
    session.step()
    wire.answer("bad", Refused("too large"))
    session.step()
    assert outbox.refused() == 1 and outbox.depth == 0
    assert (outbox.try_again(), outbox.refused(), outbox.depth) == (1, 0, 1)
    session.step()
    wire.answer("bad")
    session.step()
    assert (outbox.depth, outbox.try_again()) == (0, 0)


def test_a_row_that_does_not_parse_is_quarantined_with_the_reason(log: SqliteLog, outbox: Outbox) -> None:
    log.append([of("x", "torn"), of("x", "x2")])
    assert log._writer is not None
    log._writer.execute("UPDATE events SET value = x'ff' WHERE event_id = 'torn'")
    wire = Wire()
    session_of(outbox, wire).step()
    assert wire.names == ["x2"] and "checksum" in outbox.quarantined()[0][1]


@pytest.mark.parametrize(
    ("incarnation", "ends", "again"),
    [
        ("first", {0: 2}, []),
        ("second", {0: 0}, ["a", "b"]),
        ("second", {0: 9}, ["a", "b"]),  # made anew, and grown since
        ("first", {0: 1}, ["b"]),  # ends below the mark of b
    ],
)
def test_what_the_broker_lost_waits_again(
    log: SqliteLog, outbox: Outbox, incarnation: str, ends: dict[int, int], again: list[str]
) -> None:
    wire = Wire()
    session = session_of(outbox, wire)
    log.append([of("x", "a"), of("y", "b")])
    session.step()
    wire.answer("a")
    wire.answer("b")
    session.step()
    assert outbox.depth == 0
    assert outbox.forget("feedback", incarnation, ends) == len(again) == outbox.depth
    session.meet("feedback", incarnation, rewind=bool(again))
    session.step()
    assert wire.names == again


def test_marks_outlive_a_restart(log: SqliteLog, outbox: Outbox, tmp_path: Path) -> None:
    wire = Wire()
    session = session_of(outbox, wire)
    log.append([of("x", "a"), of("y", "b")])
    session.step()
    wire.answer("a")
    session.step()
    outbox.close()
    reopened = Outbox(log, str(tmp_path / "relay.db"), Settings())
    assert (waiting(reopened), reopened.depth) == (["b"], 1)
    reopened.close()


def test_a_full_outbox_refuses_votes_and_still_takes_the_end_of_a_response(
    log: SqliteLog, outbox: Outbox
) -> None:
    log.append([vote(f"v{i}") for i in range(5)])
    with pytest.raises(OutboxFull, match="5 events wait for the broker and the outbox takes 5") as refused:
        outbox.admit([vote("one more")])
    assert refused.value.code == "RESOURCE_EXHAUSTED"
    outbox.admit([exchange("end")])


def test_what_was_relayed_long_ago_is_dropped_but_never_the_newest_row(
    log: SqliteLog, outbox: Outbox
) -> None:
    """Exchanges after keep_days = 7, feedback after 30; the newest row stays so that its offset is not given again."""
    log.append([exchange("old"), of("x", "kept"), exchange("newest")])
    wire = Wire()
    session = session_of(outbox, wire)
    for name in ("old", "kept", "newest"):
        session.step()
        wire.answer(name)
    session.step()
    assert outbox.prune() == 0
    outbox.clock.now += 8 * DAY  # type: ignore[attr-defined]
    assert outbox.prune() == 1
    assert (log.find("old"), log.count("exchanges"), log.count("feedback")) == (None, 1, 1)
    assert (waiting(outbox), outbox.depth) == ([], 0)


def test_consent_and_erasures_are_never_dropped(log: SqliteLog, outbox: Outbox) -> None:
    """They have no conversation, and serving folds them from this file at each start."""
    consent = vote("consent")
    consent.ClearField("conversation_id")
    consent.user = "u"
    log.append([consent, exchange("newest")])
    wire = Wire()
    session = session_of(outbox, wire)
    for name in ("consent", "newest"):
        session.step()
        wire.answer(name)
    session.step()
    outbox.clock.now += 400 * DAY  # type: ignore[attr-defined]
    outbox.prune()
    assert log.find("consent") is not None


def test_the_age_is_that_of_the_oldest_event_that_waits(log: SqliteLog, outbox: Outbox) -> None:
    """Events of 30 s and 20 s ago: 30 until the first is marked, then 20, then 0."""
    wire = Wire()
    session = session_of(outbox, wire)
    for name, ago in (("a", 30), ("b", 20)):
        event = of(name, name)
        event.time.FromSeconds(int(Clock.now) - ago)
        log.append([event])
    ages = [outbox.age()]
    session.step()
    for name in ("a", "b"):
        wire.answer(name)
        session.step()
        ages.append(outbox.age())
    assert ages == [30, 20, 0]

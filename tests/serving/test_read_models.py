"""Serving's derived store is shared by turns: nobody who is forgotten, and no stop, waits for a long replay."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from feedback.join import Joiner
from feedback.log import FEEDBACK, Event, Positions, Record
from feedback.sqlite_log import SqliteLog
from feedback.training_set import TrainingSet
from heliotrope.errors import FailedPrecondition, Unavailable
from heliotrope.registry import Registry
from serving.read_models import ReadModels
from tests.learner.votes_log import unique, write_votes

PAGE, COUNT = 20, 30
"""Records that the log gives at once, and people, with one vote each: two pages."""


class HeldLog:
    """A log whose second page of feedback is not given to a follower until `let` is set; `waiting`: somebody wants it."""

    def __init__(self, inner: SqliteLog) -> None:
        self.inner, self.held = inner, False
        self.first = inner.read(FEEDBACK, {}, PAGE)[-1].offset
        self.waiting, self.let = threading.Event(), threading.Event()

    def read(self, topic: str, after: Positions, limit: int) -> list[Record]:
        found = self.inner.read(topic, after, min(limit, PAGE))
        if (
            self.held
            and topic == FEEDBACK
            and "exchanges/0" in after
            and after.get("feedback/0") == self.first
        ):
            self.waiting.set()
            assert self.let.wait(30)
        return found  # what was read before the wait, as a page that is under way

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[HeldLog]:
    inner = SqliteLog(tmp_path / "events.db")
    write_votes(inner, COUNT)
    made = HeldLog(inner)
    yield made
    made.let.set()
    inner.close()


@pytest.fixture
def views(log: HeldLog, tmp_path: Path) -> Iterator[ReadModels]:
    made = ReadModels(log, store, tmp_path / "read-models.db", Registry(tmp_path / "registry"))  # pyright: ignore
    yield made
    log.let.set()
    made.stop()


def store(path: Path) -> TrainingSet:
    return TrainingSet(path, lambda: Joiner(("human",), 0.0), "rules", lambda: 1.8e9)


def erasure_of(number: int) -> Event:
    event = Event(event_id="erase", producer_id="q", sequence=1, tenant="default", user=f"{number:032x}")
    event.time.FromSeconds(1_800_000_000)
    event.erasure_requested.erasure_id, event.erasure_requested.user = "erase", event.user
    return event


def retraction(number: int) -> Event:
    event = Event(event_id="back", producer_id="q", sequence=2, tenant="default", user=f"{number:032x}")
    event.feedback_retracted.feedback_event_id = unique("event", number, "vote")
    return event


def held_of(path: Path, number: int) -> list[Record]:
    """What a store still says of a person."""
    made = store(path)
    found = [e for e in made.examples() if e.user == f"{number:032x}"]
    made.close()
    return found  # pyright: ignore


@pytest.mark.parametrize("number", [0, COUNT - 1], ids=["taken in before", "in the page under way"])
def test_an_erasure_goes_through_while_a_replay_waits_for_the_log(
    log: HeldLog, views: ReadModels, tmp_path: Path, number: int
) -> None:
    views.quarantined(1, 0, "")
    log.held = True
    with ThreadPoolExecutor(2) as threads:
        replay = threads.submit(views.replay)
        assert log.waiting.wait(30)
        threads.submit(views.erase, erasure_of(number)).result(timeout=5)
        assert not replay.done()
        log.let.set()
        assert replay.result(timeout=60).examples == COUNT - 1
    views.stop()
    assert held_of(tmp_path / "read-models.db", number) == []


def test_the_first_follow_does_not_hold_an_erasure_up(
    log: HeldLog, views: ReadModels, tmp_path: Path
) -> None:
    log.held = True
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(views.quarantined, 1, 0, "")
        assert log.waiting.wait(30)
        threads.submit(views.erase, erasure_of(0)).result(timeout=5)
        assert not first.done()
        log.let.set()
        first.result(timeout=60)
    views.stop()
    assert held_of(tmp_path / "read-models.db", 0) == []


def test_a_stop_does_not_wait_for_a_replay_which_leaves_no_file(
    log: HeldLog, views: ReadModels, tmp_path: Path
) -> None:
    views.quarantined(1, 0, "")
    log.held = True
    with ThreadPoolExecutor(2) as threads:
        replay = threads.submit(views.replay)
        assert log.waiting.wait(30)
        with pytest.raises(FailedPrecondition, match="a replay runs already"):
            views.replay()
        threads.submit(views.stop).result(timeout=5)
        log.let.set()
        with pytest.raises(Unavailable, match="serving is stopping"):
            replay.result(timeout=30)
    assert list(tmp_path.glob("*.replay.db*")) == []


def test_what_comes_during_a_replay_does_not_make_the_hashes_differ(log: HeldLog, views: ReadModels) -> None:
    views.quarantined(1, 0, "")
    log.held = True
    with ThreadPoolExecutor(1) as threads:
        replay = threads.submit(views.replay)
        assert log.waiting.wait(30)
        log.inner.append([retraction(5)])
        log.let.set()
        done = replay.result(timeout=60)
    assert done.agrees and done.examples == COUNT - 1

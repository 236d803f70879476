"""When the learner confirms an erasure: once its log has given the request, and never at the price of learning."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from feedback.join import Joiner
from feedback.sqlite_log import SqliteLog
from feedback.training_set import TrainingSet
from heliotrope.config import Config
from heliotrope.errors import Unavailable
from heliotrope.registry import Registry
from heliotrope.v1.events_pb2 import Event
from learner import rewards
from learner.erasure import heed
from learner.inbox import Inbox
from learner.reward_steps import Prediction
from learner.store import Plan, Store


@dataclass
class Serving:
    """What serving says is left to delete, and what it has heard. away: it does not take confirmations."""

    left: list[str]
    away: bool = False
    confirmed: list[str] = field(default_factory=list)

    def pending(self) -> list[str]:
        return self.left

    def forget(self) -> None:
        """There are no keys."""

    def confirm(self, erasure_id: str) -> None:
        if self.away:
            raise Unavailable("away")
        self.confirmed.append(erasure_id)


class Models:
    """A reward model and prepared examples of nobody. again: what it predicts while it learns again."""

    learned = frozenset[str]()
    again: list[Prediction] | None = None

    def keep(self, standing: Collection[object], afresh: bool) -> list[Prediction] | None:
        return self.again

    def retain(self, ids: Collection[str]) -> None:
        """Nothing was prepared."""


def parts_of(folder: Path, log: SqliteLog, serving: Serving) -> SimpleNamespace:
    kept = TrainingSet(folder / "set.db", lambda: Joiner(("human",), 0.0), "r", lambda: 1e9)
    inbox = Inbox(log, kept, 100)
    found = {"config": Config(), "secrets": serving, "registry": Registry(folder / "registry")}
    store = Store(folder / "learner")
    return SimpleNamespace(**found, inbox=inbox, reward=Models(), prepared=Models(), store=store)


def ask(log: SqliteLog) -> None:
    event = Event(event_id="e", tenant="t", user="ann", producer_id="p", sequence=1)
    event.erasure_requested.erasure_id, event.erasure_requested.user = "e", "ann"
    log.append([event])


def test_an_erasure_that_the_log_has_not_given_yet_is_not_confirmed(tmp_path: Path) -> None:
    log, serving = SqliteLog(tmp_path / "events.db"), Serving(["e"])
    parts = parts_of(tmp_path, log, serving)
    assert heed(parts) == 0 and serving.confirmed == []  # pyright: ignore[reportArgumentType]
    ask(log)
    assert heed(parts) == 1 and serving.confirmed == ["e"]  # pyright: ignore[reportArgumentType]
    parts.inbox.close()


def test_what_a_model_said_that_had_learned_from_an_erased_person_goes_before_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SqliteLog(tmp_path / "events.db")
    ask(log)
    parts = parts_of(tmp_path, log, Serving(["e"]))
    store = parts.store
    store.record([Prediction("of the person", 1.0, 0.3, 0), Prediction("of another", 1.0, 0.3, 8)])
    parts.reward.again = [Prediction("of another", 0.0, 0.7, 0)]
    at_purge: list[tuple[float, int]] = []
    monkeypatch.setattr(rewards, "purge", lambda *_: at_purge.append(store.right()) or [])
    assert heed(parts) == 1  # pyright: ignore[reportArgumentType]
    assert at_purge == [(0.5, 1)], "killed after the purge, nothing would say that the record is another's"
    parts.inbox.close()


def test_a_confirmation_that_fails_leaves_the_learner_running(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "events.db")
    ask(log)
    parts = parts_of(tmp_path, log, Serving(["e"], away=True))
    assert heed(parts) == 0  # pyright: ignore[reportArgumentType]
    parts.inbox.close()


def test_an_update_that_was_cut_off_is_not_taken_up_after_an_erasure(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "events.db")
    ask(log)
    parts = parts_of(tmp_path, log, Serving(["e"]))
    parts.store.begin(Plan("base", {}, 0.0))
    assert heed(parts) == 1 and parts.store.begun() is None  # pyright: ignore[reportArgumentType]
    parts.inbox.close()

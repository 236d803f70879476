"""Who learned from a person: by example ids, through parents, and reward models by what they were fitted to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback.sqlite_log import SqliteLog
from feedback.traces import Touched, touched
from heliotrope.registry import Registry
from heliotrope.v1.events_pb2 import Event
from tests.heliotrope.small_adapters import stage


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    made = SqliteLog(tmp_path / "events.db")
    for event_id, user in (("a", "ann"), ("b", "bob")):
        event = Event(event_id=event_id, tenant="t", user=user)
        event.feedback_given.feedback.thumb.up = True
        made.append([event])
    yield made
    made.close()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def publish(registry: Registry, **fields: object) -> None:
    """A version whose manifest says this."""
    write = stage(fill=0.1)
    registry.publish(lambda folder: write(folder).model_copy(update=fields))


def test_a_version_learned_itself_or_through_its_parent(log: SqliteLog, registry: Registry) -> None:
    publish(registry, parent="policy-v0", example_ids=("b",))
    publish(registry, parent="policy-v1", example_ids=("b", "a/A"))
    publish(registry, parent="policy-v2", example_ids=("b",))
    publish(registry, parent="policy-v1", example_ids=("b/0-1",))
    assert touched(log, registry, ("t", "ann")).policies == ("policy-v2", "policy-v3")


def test_a_reward_model_learned_from_what_it_was_fitted_to(log: SqliteLog, registry: Registry) -> None:
    publish(registry, parent="policy-v0", reward_model={"digest": "tie", "also_learned": "b a"})
    publish(registry, parent="policy-v1", reward_model={"digest": "clean", "also_learned": "b"})
    assert touched(log, registry, ("t", "ann")) == Touched((), ("tie",))


def test_a_reward_model_goes_on_from_the_one_before_it(log: SqliteLog, registry: Registry) -> None:
    for digest, parent, learned in (
        ("first", "", "b"),
        ("hers", "first", "b2 a"),
        ("heir", "hers", "b3"),
        ("afresh", "", "b b2 b3"),
        ("unknown", "lost", "b4"),
    ):
        model = {"digest": digest, "parent": parent, "learned": learned}
        publish(registry, parent="policy-v0", reward_model=model)
    assert touched(log, registry, ("t", "ann")).reward_models == ("hers", "heir", "unknown")


def test_one_that_does_not_say_counts_from_the_first_vote_on(log: SqliteLog, registry: Registry) -> None:
    publish(registry, parent="policy-v0", reward_model={"digest": "r1"}, log_positions={"feedback/0": 1})
    publish(registry, parent="policy-v0", reward_model={"digest": "r2"}, log_positions={"feedback/0": 2})
    assert touched(log, registry, ("t", "ann")).reward_models == ("r1", "r2")
    assert touched(log, registry, ("t", "bob")).reward_models == ("r2",)
    assert touched(log, registry, ("other", "ann")) == Touched((), ())

"""What the learner takes from the log besides votes: prompts that the judge can really ask."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback.join import Joiner
from feedback.sqlite_log import SqliteLog
from feedback.training_set import TrainingSet
from heliotrope.v1 import common_pb2, events_pb2
from learner.inbox import Inbox
from tests.learner.votes_log import unique, write_votes


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    made = SqliteLog(tmp_path / "events.db")
    yield made
    made.close()


def served(name: str, prompt: list[int], **fields) -> events_pb2.Event:
    made = {"consent": True, "source": common_pb2.SOURCE_HUMAN, "purpose": common_pb2.PURPOSE_CHAT} | fields
    event = events_pb2.Event(event_id=unique("served", name), conversation_id=unique(name), **made)
    event.response_served.response_id = unique(name)
    event.response_served.prompt_token_ids.extend(prompt)
    event.response_served.response_token_ids.extend([5, 6])
    return event


def inbox_of(log: SqliteLog) -> Inbox:
    path = log.path.with_name("training-set.db")
    inbox = Inbox(log, TrainingSet(path, lambda: Joiner(["human"], 0.0), "rules", time.time), window=100)
    inbox.read()
    return inbox


def test_only_prompts_that_may_be_learned_from_and_fit_are_asked_again(log: SqliteLog) -> None:
    log.append(
        [
            served("good", [1, 2, 3]),
            served("lost", []),
            served("long", list(range(50))),
            served("without consent", [7], consent=False),
            served("simulated", [8], source=common_pb2.SOURCE_SIMULATED),
            served("evaluation", [9], purpose=common_pb2.PURPOSE_EVALUATION),
        ]
    )
    assert inbox_of(log).prompts(10, [], longest=20) == [(1, 2, 3)]


def test_prompts_that_nothing_was_trained_on_come_first_and_newest_first(log: SqliteLog) -> None:
    write_votes(log, 1)
    log.append([served("old", [1, 2]), served("new", [3, 4])])
    inbox = inbox_of(log)
    trained = inbox.teachings(["Preference"])
    prompts = inbox.prompts(3, trained, longest=20)
    assert prompts == [(3, 4), (1, 2), trained[0].prompt_ids]


def test_what_could_not_be_used_is_looked_at_again_at_the_next_start(log: SqliteLog) -> None:
    write_votes(log, 2)
    path = log.path.with_name("training-set.db")
    behind = TrainingSet(path, lambda: Joiner(["human"], 0.0), "rules", lambda: 1.0)
    behind.follow(log)
    assert set(behind.quarantine_counts()) == {"time_out_of_range"}
    behind.close()
    inbox = inbox_of(log)
    assert not inbox.teachings(["Preference"])
    inbox.look_again()
    assert len(inbox.teachings(["Preference"])) == 2


def test_what_was_read_once_is_there_after_a_restart_and_until_hides_what_came_later(log: SqliteLog) -> None:
    write_votes(log, 3)
    first = inbox_of(log)
    positions = first.positions
    first.training_set.close()
    write_votes(log, 2, first=3)
    again = inbox_of(log)
    assert len(again.teachings(["Preference"])) == 5
    again.read(until=positions)
    assert (
        len(again.teachings(["Preference"])) == 3 and len(again.fresh(again.teachings(["Preference"]))) == 3
    )

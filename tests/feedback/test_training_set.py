"""The training set: one hash for one set of events, whatever the order, the repeats and the restarts."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback.inspection import Reason
from feedback.join import Joiner, Preference
from feedback.log import EXCHANGES, FEEDBACK, Record, place
from feedback.training_set import TrainingSet
from heliotrope.errors import LogError
from heliotrope.v1.events_pb2 import Event
from tests.feedback.crowd import DAY, START, Crowd, crowd, delivered, digest_of
from tests.feedback.join_events import compared, header, pair, retracted

NOW = START + 365 * DAY


def opened(path: Path, rules: str = "r", held_out: float = 0.0, now: float = NOW) -> TrainingSet:
    return TrainingSet(path, lambda: Joiner(("human",), held_out), rules, lambda: now)


def records(events: Sequence[Event], topic: str = FEEDBACK, first: int = 1) -> list[Record]:
    return [Record(topic, 0, first + i, event) for i, event in enumerate(events)]


def pages(order: list[Record], rng: random.Random) -> list[list[Record]]:
    found = []
    while order:
        size = rng.randint(1, 12)
        found.append(order[:size])
        order = order[size:]
    return found


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), reading=st.integers(0, 10**6))
def test_repeats_disorder_and_restarts_give_the_hash_of_what_people_meant(
    tmp_path: Path, seed: int, reading: int
) -> None:
    made, rng = crowd(seed), random.Random(reading)
    path = tmp_path / f"{seed}-{reading}.db"
    path.unlink(missing_ok=True)
    kept = opened(path)
    for page in pages(delivered(made.events, rng), rng):
        kept.take(page)
        if rng.random() < 0.1:
            kept.close()
            kept = opened(path)
    kept.settle()
    assert kept.hash() == made.digest == digest_of(kept.examples())
    kept.close()


def flipped(made: Crowd) -> list[Event]:
    """The same history with one standing comparison the other way round."""
    target = next(e.id for (_, kind), e in sorted(made.truth.items()) if kind == "comparison")
    events = [Event.FromString(e.SerializeToString()) for e in made.events]
    vote = next(e for e in events if e.event_id == target).feedback_given.feedback.comparison
    vote.choice = {1: 2, 2: 1, 3: 1}[vote.choice]
    return events


def test_one_vote_that_differs_changes_the_hash(tmp_path: Path) -> None:
    made = crowd(3)
    kept = opened(tmp_path / "a.db")
    kept.take(delivered(flipped(made), random.Random(1)))
    assert len(kept.examples()) == len(made.truth) and kept.hash() != made.digest
    kept.close()


def test_joining_in_memory_says_the_same(tmp_path: Path) -> None:
    made, joiner = crowd(5, people=8, acts=60), Joiner(("human",), 0.3)
    for event in made.events:
        joiner.add(event)
    kept = opened(tmp_path / "a.db", held_out=0.3)
    kept.take(delivered(made.events, random.Random(2)))
    assert sorted(kept.examples(), key=lambda e: e.id) == sorted(joiner.joined().examples, key=lambda e: e.id)
    kept.close()


def test_a_transaction_that_ends_in_the_middle_leaves_neither_rows_nor_positions(tmp_path: Path) -> None:
    kept = opened(tmp_path / "a.db")
    kept.take(records(pair(), EXCHANGES))
    other = sqlite3.connect(tmp_path / "a.db")
    other.execute("CREATE TRIGGER no BEFORE INSERT ON positions BEGIN SELECT RAISE(ABORT, 'disk'); END")
    other.commit()
    with pytest.raises(LogError, match="disk"):
        kept.take(records([compared("v", "A")]))
    assert kept.examples() == [] and kept.positions == {place(EXCHANGES): 2}
    other.execute("DROP TRIGGER no")
    other.commit()
    other.close()
    kept.take(records([compared("v", "A")]))
    assert [e.id for e in kept.examples()] == ["v"] and kept.positions[place(FEEDBACK)] == 1
    kept.close()


def test_a_vote_waits_thirty_days_of_log_time_then_goes_to_quarantine_and_still_counts_when_its_response_comes(
    tmp_path: Path,
) -> None:
    kept = opened(tmp_path / "a.db")
    kept.take(records([compared("v", "A", at=START)]))
    kept.take(records([compared("w", "A", "ben", at=START + 29 * DAY)], first=2))
    kept.settle()
    assert kept.quarantine_counts() == {} and kept.states() == {"pending": 2}
    kept.take(records([compared("x", "A", "cid", at=START + 31 * DAY)], first=3))
    kept.settle()
    (found,) = kept.quarantined(10)
    assert (found.event_id, found.reason, found.place, found.offset) == (
        "v",
        "target_unknown",
        "feedback/0",
        1,
    )
    kept.take(records(pair(), EXCHANGES))
    kept.settle()
    assert [e.id for e in kept.examples()] == ["v"] and kept.quarantine_counts() == {}
    kept.close()


def test_a_retracted_vote_that_waits_leaves_quarantine(tmp_path: Path) -> None:
    kept = opened(tmp_path / "a.db")
    kept.take(records([compared("v", "A", at=START), compared("x", "A", "cid", at=START + 31 * DAY)]))
    kept.settle()
    assert kept.quarantine_counts() == {Reason.TARGET_UNKNOWN: 1}
    kept.take(records([retracted("r", "v")], first=3))
    assert kept.quarantine_counts() == {}
    kept.close()


def test_other_rules_make_the_examples_anew_from_the_facts(tmp_path: Path) -> None:
    kept = opened(tmp_path / "a.db")
    kept.take(records(pair(), EXCHANGES) + records([compared("v", "A")]))
    before = kept.hash()
    kept.close()
    kept = opened(tmp_path / "a.db", rules="other", held_out=1.0)
    assert kept.hash() != before and [e.held_out for e in kept.examples()] == [True]
    kept.close()


def test_erasure_leaves_tombstones_and_no_content_also_for_what_comes_after_it(tmp_path: Path) -> None:
    erasure = header("e", at=60, sequence=5)
    erasure.erasure_requested.user = "ann"
    kept = opened(tmp_path / "a.db")
    secret = compared("v", "A", at=50, sequence=4)
    secret.feedback_given.feedback.comment = "canary in a coal mine"
    a, b = pair()
    a.response_served.prompt_token_ids[:] = [77_001, 77_002, 77_003]
    kept.take(records([a], EXCHANGES) + records([secret, erasure]))
    kept.take(records([b], EXCHANGES, first=2))
    assert kept.examples() == [] and kept.facts.erased_among(iter(["v", a.event_id, b.event_id])) == [
        "v", a.event_id, b.event_id,
    ]  # fmt: skip
    files = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    packed = bytes(a.response_served.SerializeToString()[10:16])
    assert b"canary" not in files and packed not in files
    kept.close()


def test_examples_come_newest_within_the_limit_and_oldest_first(tmp_path: Path) -> None:
    kept = opened(tmp_path / "a.db")
    people = ["ann", "ben", "cid"]
    kept.take(records([e for p in people for e in pair(p)], EXCHANGES))
    kept.take(records([compared(f"v-{p}", "A", p, at=i) for i, p in enumerate(people)]))
    assert [e.id for e in kept.examples("Preference", 2)] == ["v-ben", "v-cid"]
    assert kept.examples("Thumb") == [] and isinstance(kept.examples()[0], Preference)
    kept.close()


def test_an_example_is_known_at_positions_that_cover_all_its_events(tmp_path: Path) -> None:
    kept = opened(tmp_path / "a.db")
    kept.take(records(pair(), EXCHANGES) + records([compared("v", "A")], first=7))
    (example,) = kept.examples()
    assert kept.known_at(example, {"exchanges/0": 2, "feedback/0": 7})
    assert not kept.known_at(example, {"exchanges/0": 1, "feedback/0": 9})
    kept.close()


def test_prompts_are_of_the_newest_responses_that_may_be_learned_from(tmp_path: Path) -> None:
    kept = opened(tmp_path / "a.db")
    a, b = pair()
    b.response_served.prompt_token_ids[:] = [9]
    a.consent = False
    kept.take(records([a, b], EXCHANGES))
    assert kept.prompts(10) == [(9,)]
    kept.close()

"""Agreement and flip rate, counted by hand."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from feedback.agreement import Agreement
from feedback.agreement import agreement as of_preferences
from feedback.join import Joiner
from heliotrope.v1 import common_pb2
from tests.feedback.join_events import CHOICES, Event, compared, header, judgement, pair, retracted, served

GOOD, POOR = range(100, 120), range(200, 240)


def agreement(events: Iterable[Event], sources: set[str]) -> Agreement:
    joiner = Joiner(sources, 0.0)
    for event in events:
        joiner.add(event)
    return of_preferences(joiner.preferences())


def showing(
    name: str, user: str, pick: str, at: float, item: str = "i", swapped: bool = False
) -> list[Event]:
    """One item shown once: its answers under new ids, with sides as said; `pick` is "good", "poor", "tie" or "skip"."""
    left, right = (POOR, GOOD) if swapped else (GOOD, POOR)
    vote = judgement(header(f"v-{name}", user, at, int(at) + 1), f"l-{name}", f"r-{name}", item=item)
    vote.feedback_given.targets[0].side = common_pb2.SIDE_A
    vote.feedback_given.targets[1].side = common_pb2.SIDE_B
    choice = {"good": "B" if swapped else "A", "poor": "A" if swapped else "B"}.get(pick, pick)
    vote.feedback_given.feedback.comparison.choice = CHOICES[choice]
    return [served(f"l-{name}", left, user), served(f"r-{name}", right, user), vote]


def test_three_people_on_one_item_and_two_on_another() -> None:
    # Item i: ann good, ben good (sides swapped), cid poor: of 3 pairs 1 agrees. Item j: ann poor, ben poor: 1 of 1.
    # Together 2 of 4. Ann sees i again and picks poor: 1 repeat, 1 flip; then poor again: 2 repeats, 1 flip.
    events = [
        *showing("1", "ann", "good", 1), *showing("2", "ben", "good", 2, swapped=True), *showing("3", "cid", "poor", 3),
        *showing("4", "ann", "poor", 4, "j"), *showing("5", "ben", "poor", 5, "j", swapped=True),
        *showing("6", "ann", "poor", 6, swapped=True), *showing("7", "ann", "poor", 7),
    ]  # fmt: skip
    found = agreement(events, {"human"})
    assert found == Agreement(pairs=4, agreed=2, repeats=2, flips=1)
    assert (found.agreement, found.flip_rate) == (0.5, 0.5)
    random.Random(3).shuffle(events)
    assert agreement(events, {"human"}) == found, "the order of arrival does not matter"


def test_a_change_of_mind_on_one_showing_is_no_flip_and_counts_as_its_last() -> None:
    changed = showing("1", "ann", "poor", 9)[2]
    changed.event_id = "v-changed"
    events = [*showing("1", "ann", "good", 1), changed, *showing("2", "ben", "poor", 2)]
    assert agreement(events, {"human"}) == Agreement(pairs=1, agreed=1, repeats=0, flips=0)


def test_only_picks_on_shared_items_by_accepted_people_count() -> None:
    ann, ben = showing("1", "ann", "good", 1), showing("2", "ben", "good", 2)
    assert agreement([*ann, *ben], {"human"}).pairs == 1
    assert agreement([*ann, *ben], {"simulated"}).pairs == 0
    assert agreement([*ann, *ben, retracted("r", "v-2", "ben")], {"human"}).pairs == 0
    assert agreement([*ann, *showing("3", "ben", "tie", 2)], {"human"}).pairs == 0
    assert (
        agreement(
            [*pair("ann"), *pair("ben"), compared("x", "A", "ann"), compared("y", "A", "ben")], {"human"}
        ).pairs
        == 0
    )
    assert agreement([], {"human"}).agreement is None


@pytest.mark.parametrize(
    ("agreed", "flips"),
    [(68, 0.2), (100, 0.0), (52, 0.4), (40, 0.4)],  # 0.68 = 0.8² + 0.2²; 0.52 = 0.6² + 0.4²
)
def test_how_many_votes_are_the_wrong_way_round_follows_from_agreement(agreed: int, flips: float) -> None:
    assert Agreement(100, agreed, 0, 0).label_flips == pytest.approx(flips)


def test_few_shared_votes_say_nothing_of_flips() -> None:
    assert Agreement(29, 20, 0, 0).label_flips is None
    assert Agreement(0, 0, 0, 0).label_flips is None

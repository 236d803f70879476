"""How far people agree with each other, and each with themselves, on shared items and on nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import combinations, pairwise

from feedback.cases import source_name
from feedback.votes import Person, Votes, judged, person
from heliotrope.v1 import common_pb2, feedback_pb2
from heliotrope.v1.events_pb2 import Event

TokenIds = tuple[int, ...]
Pair = tuple[str, frozenset[TokenIds]]


@dataclass(frozen=True)
class Agreement:
    """Counts behind two shares; a share of nothing is None.

    pairs: pairs of different people who both picked on one item; agreed: those who picked the same answer.
    repeats: times that one person picked again on an item shown again; flips: those where the pick was another one.
    """

    pairs: int
    agreed: int
    repeats: int
    flips: int

    @property
    def agreement(self) -> float | None:
        """agreed / pairs: 0.5 is chance, 1 is one mind."""
        return self.agreed / self.pairs if self.pairs else None

    @property
    def flip_rate(self) -> float | None:
        """flips / repeats: 0 is steady, 0.5 is chance."""
        return self.flips / self.repeats if self.repeats else None


def agreement(events: Iterable[Event], sources: Collection[str]) -> Agreement:
    """Agreement between people and flip rate, from events alone.

    agreement = Σ over items of pairs of people with the same pick / Σ over items of pairs of people. An item is an
    `item_id` with two very answers (compared by token ids, as each showing has its own response ids and sides). A
    person's pick on an item is the one at their first showing; ties, both bad and skip are no picks. flip rate = share
    of consecutive showings of one item to one person with another pick. A vote that was changed on the same showing
    counts once, as its last; retracted votes, evaluation and sources not named do not count.
    """
    votes, answers = Votes(), dict[str, TokenIds]()
    for event in events:
        if event.WhichOneof("what") == "response_served":
            served = event.response_served
            answers[served.response_id] = tuple(served.response_token_ids)
        else:
            votes.add(event)
    picks: dict[Pair, dict[Person, list[TokenIds]]] = defaultdict(lambda: defaultdict(list))
    for vote in votes.standing():
        if (found := _pick(vote, answers, sources)) is not None:
            item, picked = found
            picks[item][person(vote)].append(picked)
    return _count([list(people.values()) for people in picks.values()])


def _pick(
    vote: Event, answers: dict[str, TokenIds], sources: Collection[str]
) -> tuple[Pair, TokenIds] | None:
    """The item and the picked answer, or None when the judgement is no pick on a shared item."""
    given = vote.feedback_given
    if (
        not given.item_id
        or vote.purpose == common_pb2.PURPOSE_EVALUATION
        or source_name(vote.source) not in sources
    ):
        return None
    side = {
        feedback_pb2.CHOICE_A: common_pb2.SIDE_A,
        feedback_pb2.CHOICE_B: common_pb2.SIDE_B,
    }.get(given.feedback.comparison.choice)
    if side is None or len(given.targets) != 2 or any(name not in answers for name in judged(vote)):
        return None
    swapped = given.targets[0].side == common_pb2.SIDE_B
    place = int((side == common_pb2.SIDE_B) != swapped)
    shown = [answers[name] for name in judged(vote)]
    return (given.item_id, frozenset(shown)), shown[place]


def _count(items: list[list[list[TokenIds]]]) -> Agreement:
    """items: for each item, for each person, their picks from the first showing on."""
    firsts = [(a[0], b[0]) for people in items for a, b in combinations(people, 2)]
    again = [two for people in items for picks in people for two in pairwise(picks)]
    return Agreement(len(firsts), sum(a == b for a, b in firsts), len(again), sum(a != b for a, b in again))

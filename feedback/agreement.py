"""How far people agree with each other, and each with themselves, on shared items and on nothing else."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, pairwise

from feedback.examples import Preference, TokenIds

FEWEST = 30
"""Pairs of people under which agreement says nothing of flips: its standard error is then 0.09 or more."""
MOST_FLIPS = 0.4
"""What is believed of flips at most: at one half a vote says nothing, and robust DPO divides by 1 − 2 ε."""


@dataclass(frozen=True)
class Agreement:
    """Counts behind the shares; a share of nothing is None.

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

    @property
    def figures(self) -> dict[str, float]:
        """By name, those that there are."""
        found = {"agreement": self.agreement, "flip_rate": self.flip_rate, "label_flips": self.label_flips}
        return {name: share for name, share in found.items() if share is not None}

    @property
    def label_flips(self) -> float | None:
        """ε, the chance that a vote is the wrong way round, of one taste and independent slips: two people agree when neither
        or both slip, a = (1 − ε)² + ε², so ε = (1 − √(2a − 1)) / 2, at most 0.4. None with fewer than 30 pairs of people.

        What people differ in counts as slips too: to a policy that has one taste for all it is.
        """
        if self.agreement is None or self.pairs < FEWEST:
            return None
        return min(MOST_FLIPS, (1 - math.sqrt(max(0.0, 2 * self.agreement - 1))) / 2)


def agreement(preferences: Iterable[Preference]) -> Agreement:
    """Of the comparisons among these.

    agreement = Σ over items of pairs of people with the same pick / Σ over items of pairs of people. An item is an
    `item_id` with two very answers (compared by token ids, as each showing has its own response ids and sides). A
    person's pick on an item is the one at their first showing; ties are no picks, and neither is what follows from a
    ranking, a correction or a grade. flip rate = share of consecutive showings of one item to one person with another pick.
    """
    picks: dict[tuple[str, frozenset[TokenIds]], dict[str, list[TokenIds]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for p in sorted(preferences, key=lambda p: (p.time, p.id)):
        if p.item_id and not p.tie and p.id == p.event_ids[0]:
            picks[p.item_id, frozenset((p.chosen_ids, p.rejected_ids))][p.user].append(p.chosen_ids)
    return _count([list(people.values()) for people in picks.values()])


def _count(items: list[list[list[TokenIds]]]) -> Agreement:
    """items: for each item, for each person, their picks from the first showing on."""
    firsts = [(a[0], b[0]) for people in items for a, b in combinations(people, 2)]
    again = [two for people in items for picks in people for two in pairwise(picks)]
    return Agreement(len(firsts), sum(a == b for a, b in firsts), len(again), sum(a != b for a, b in again))

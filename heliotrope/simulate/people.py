"""Simulated people: each weighs the traits of a reply a little differently, and none is sure.

A person's feeling for a reply is `utility` with personal weights plus noise drawn afresh at each look, so
the same person may answer the same question differently the next day. How much people differ (`TASTE`) and
how unsure they are (`NOISE`) were set so that two of them agree on 60–72 % of the pairs that both decide
(docs/experiments.md).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from .judging import Reply
from .utility import WEIGHTS, utility

Choice = Literal["a", "b", "tie", "both_bad", "skip"]
Press = Literal["up", "down"]

TASTE = 0.35
"""Spread (standard deviation of the logarithm) of a person's weight around the common one."""

NOISE = 0.75
"""Standard deviation of the noise on one reply at one look, in utility units."""

TIE = 0.12
"""Below this felt difference a person says that neither is better."""

POOR, GOOD = 4.0, 6.0
"""Felt utility under which a reply is bad, and over which it is good; base replies lie around 5."""

SKIP, PRESS, REGRET = 0.02, 0.3, 0.05
"""Chances to skip a comparison, to press a thumb when the feeling is clear, and to look again after a
choice."""

MAX_BIAS = 0.05
"""The most that being shown first adds to a reply for a person, in utility units: some like the left side."""


@dataclass
class Person:
    """One simulated person. Everything random comes from `rng`: same seed, same questions, same answers."""

    name: str
    weights: Mapping[str, float]
    noise: float
    left: float
    rng: random.Random = field(repr=False)

    def choose(self, prompt: str, reply_a: Reply, reply_b: Reply) -> Choice:
        """Compare two replies, shown as A (left) and B (right)."""
        if self.rng.random() < SKIP:
            return "skip"
        felt_a, felt_b = self._feel(prompt, reply_a) + self.left, self._feel(prompt, reply_b)
        if max(felt_a, felt_b) < POOR:
            return "both_bad"
        if abs(felt_a - felt_b) < TIE:
            return "tie"
        return "a" if felt_a > felt_b else "b"

    def thumb(self, prompt: str, reply: Reply) -> Press | None:
        """Press a thumb now and then, only on what is felt to be clearly good or bad."""
        felt = self._feel(prompt, reply)
        if POOR <= felt <= GOOD or self.rng.random() >= PRESS:
            return None
        return "up" if felt > GOOD else "down"

    def reconsider(self, prompt: str, reply_a: Reply, reply_b: Reply, first: Choice) -> Choice | None:
        """Sometimes look again after choosing `first`; the new choice when it differs, else None."""
        if self.rng.random() >= REGRET:
            return None
        second = self.choose(prompt, reply_a, reply_b)
        return second if second not in (first, "skip") else None

    def _feel(self, prompt: str, reply: Reply) -> float:
        return utility(prompt, reply.text, reply.finished, self.weights) + self.rng.gauss(0.0, self.noise)


class Population:
    """`size` people drawn from `seed`. Person k is the same in every population of that seed, whatever its
    size."""

    def __init__(self, seed: int, size: int) -> None:
        if size < 1:
            raise ValueError(f"a population of {size} has nobody in it; ask for 1 or more")
        self.people = tuple(_person(seed, number) for number in range(size))

    def __len__(self) -> int:
        """How many people there are."""
        return len(self.people)

    def __getitem__(self, number: int) -> Person:
        """Person `number`, from 0; counted round again past the last."""
        return self.people[number % len(self.people)]


def agreement(votes: Iterable[tuple[str, str, str]]) -> float:
    """Share of (item, two people) on which both decided for a side and it was the same side, of all where
    both decided.

    `votes` are (item, person, choice); the last vote of a person on an item counts. "a" and "b" are sides
    of the *item*: undo any swapping of sides first. Ties, both bad and skips decide nothing and are left
    out. Raises ValueError when no two people decided the same item.
    """
    decided: dict[str, dict[str, str]] = {}
    for item, person, choice in votes:
        decided.setdefault(item, {})[person] = choice
    pairs = [
        (one, other)
        for by_person in decided.values()
        for one, other in combinations([choice for choice in by_person.values() if choice in ("a", "b")], 2)
    ]
    if not pairs:
        raise ValueError(
            "agreement needs an item on which two people chose a side; show the same items to more people"
        )
    return sum(one == other for one, other in pairs) / len(pairs)


def measured_agreement(
    population: Population, pairs: Mapping[str, tuple[Reply, Reply]], readers: int = 6
) -> float:
    """`agreement` when each pair (prompt → two replies) is shown to `readers` of the people, in turn.

    A run's own shared items are few: 10 items shown to 5 people each leave a standard error of 0.1. A hundred
    pairs shown to 6 leave 0.03.
    """
    votes: list[tuple[str, str, str]] = []
    turn = 0
    for prompt, (reply_a, reply_b) in pairs.items():
        for person in (population[turn + number] for number in range(min(readers, len(population)))):
            votes.append((prompt, person.name, person.choose(prompt, reply_a, reply_b)))
        turn += readers
    return agreement(votes)


def _person(seed: int, number: int) -> Person:
    rng = random.Random(f"{seed}:{number}")
    weights = {name: weight * math.exp(rng.gauss(0.0, TASTE)) for name, weight in WEIGHTS.items()}
    # The same sum for everyone: people differ in what they like, not in how much they like everything.
    scale = sum(WEIGHTS.values()) / sum(weights.values())
    return Person(
        name=f"person-{number:03d}",
        weights={name: weight * scale for name, weight in weights.items()},
        noise=NOISE * math.exp(rng.gauss(0.0, 0.25)),
        left=rng.uniform(0.0, MAX_BIAS),
        rng=rng,
    )

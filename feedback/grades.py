"""Grades as comparisons: one person's 4 is another one's 3, but the same person's 4 is above the same person's 3."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

HELPFULNESS = 5
PRESENTATION = 3


class Grade(NamedTuple):
    """What one person gave one response: 1 to 5 and 1 to 3; 0 where not given."""

    helpfulness: int = 0
    presentation: int = 0


class Verdict(NamedTuple):
    """What two grades say about two responses to one prompt, given by their places."""

    better: int
    worse: int
    strength: float
    """How much better, 0 (a tie) to 1 (from one end of the scale to the other): scales a loss's margin."""
    weight: float
    """Share of one judgement."""

    @property
    def tie(self) -> bool:
        """Equal grades: `better` and `worse` are just the two places."""
        return self.strength == 0


def compare(first: Grade, second: Grade) -> float | None:
    """By how much the first is better, -1 to 1; None where nothing was graded in both.

        (helpfulness_1 - helpfulness_2) / 4;  where that is 0 or missing, (presentation_1 - presentation_2) / 2 / 4

    Presentation decides only between equally helpful responses, and then by less than one step of helpfulness
    (at most 1/4): how it looks never outweighs what it says.
    """
    helped = bool(first.helpfulness and second.helpfulness)
    shown = bool(first.presentation and second.presentation)
    if helped and first.helpfulness != second.helpfulness:
        return (first.helpfulness - second.helpfulness) / (HELPFULNESS - 1)
    if shown:
        return (first.presentation - second.presentation) / (PRESENTATION - 1) / (HELPFULNESS - 1)
    return 0.0 if helped else None


def verdicts(grades: Sequence[Grade]) -> list[Verdict]:
    """All comparisons among one person's K grades under one prompt, weighing one judgement together (1 / C(K, 2)).

    Grades of different people, or under different prompts, are never compared: they have no common zero.
    """
    places = list(combinations(range(len(grades)), 2))
    made = []
    for i, j in places:
        difference = compare(grades[i], grades[j])
        if difference is not None:
            better, worse = (i, j) if difference >= 0 else (j, i)
            made.append(Verdict(better, worse, abs(difference), 1 / len(places)))
    return made

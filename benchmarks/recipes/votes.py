"""Votes of simulated people on base's answers."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.recipes.draw import answers, reply
from feedback.examples import Preference
from heliotrope.simulate.people import Population

DRAWS = 4
"""Base's answers to a prompt: two pairs to vote on, or four rivals at the end."""
PEOPLE = 100


def base_files(work: Path, tokens: int) -> tuple[Path, Path]:
    """Where base's answers of so many tokens are kept: to be voted on, and to be judged against."""
    return work / f"base-asked-{tokens}.jsonl", work / f"base-kept-{tokens}.jsonl"


def pairs(file: Path, count: int, seed: int) -> list[Preference]:
    """`count` decided votes of a crowd, each on a pair of its own, in an order of their own. Raises ValueError when
    fewer are decided."""
    people, rng = Population(seed, PEOPLE), random.Random(f"recipes {seed}")
    shown = [
        (drawn[i], drawn[i + 1]) for drawn in answers(file).values() for i in range(0, len(drawn) - 1, 2)
    ]
    rng.shuffle(shown)
    found: list[Preference] = []
    for turn, (a, b) in enumerate(shown):
        choice = people[turn].choose(a["prompt"], reply(a), reply(b))
        if choice in ("a", "b") and a["ids"] and b["ids"]:
            found.append(
                _preference(f"vote-{turn}", people[turn].name, *((a, b) if choice == "a" else (b, a)))
            )
        if len(found) == count:
            return found
    raise ValueError(f"only {len(found)} of {count} votes are decided; ask for fewer with --votes")


def _preference(id: str, user: str, chosen: dict, rejected: dict) -> Preference:
    return Preference(
        id=id, event_ids=(id,), prompt_ids=tuple(chosen["prompt_ids"]), user=user, conversation=id, time=0.0,
        source="simulated", chosen_ids=tuple(chosen["ids"]), rejected_ids=tuple(rejected["ids"]),
    )  # fmt: skip

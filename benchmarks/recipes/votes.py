"""Votes of simulated people on base's answers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.recipes.draw import answers, reply
from feedback.examples import Preference
from heliotrope.simulate.people import Population
from heliotrope.simulate.utility import utility

DRAWS = 4
"""Base's answers to a prompt: two pairs to vote on, or four rivals at the end."""
PEOPLE = 100
SHARED, READERS = 60, 4
"""Pairs that several people are asked about, and how many of them."""


def base_files(work: Path, tokens: int) -> tuple[Path, Path]:
    """Where base's answers of so many tokens are kept: to be voted on, and to be judged against."""
    return work / f"base-asked-{tokens}.jsonl", work / f"base-kept-{tokens}.jsonl"


@dataclass(frozen=True)
class Votes:
    """What one crowd says. trained: decided votes, each on a pair of its own; wrong: share of them that the hidden utility has
    the other way round. shared: what more people say of the first pairs, which tells how often votes are wrong."""

    trained: list[Preference]
    wrong: float
    shared: list[Preference]


def votes(file: Path, count: int, seed: int, flip: float = 0.0) -> Votes:
    """Of a crowd on `count` pairs. flip: share of votes that are turned round by chance, beside what the crowd has wrong by
    itself. Raises ValueError when fewer are decided."""
    crowd = Crowd(seed, flip)
    shown = [
        (drawn[i], drawn[i + 1]) for drawn in answers(file).values() for i in range(0, len(drawn) - 1, 2)
    ]
    random.Random(f"recipes {seed}").shuffle(shown)
    said = (crowd.vote(turn, pair, turn) for turn, pair in enumerate(shown))
    found = list(islice((vote for vote in said if vote), count))
    if len(found) < count:
        raise ValueError(f"only {len(found)} of {count} votes are decided; ask for fewer with --votes")
    again = [
        crowd.vote(turn, shown[turn], turn + reader)
        for turn in range(min(SHARED, len(shown)))
        for reader in range(1, READERS + 1)
    ]
    wrong = sum(not right for _, right in found) / count
    return Votes([vote for vote, _ in found], wrong, [said[0] for said in again if said])


class Crowd:
    """People of one seed, and chance that turns their votes round."""

    def __init__(self, seed: int, flip: float) -> None:
        self._people, self._flip, self._chance = (
            Population(seed, PEOPLE),
            flip,
            random.Random(f"flips {seed}"),
        )

    def vote(self, turn: int, shown: tuple[dict, dict], reader: int) -> tuple[Preference, bool] | None:
        """What a person says of one pair, and whether the utility has it so; None when they do not decide."""
        person, (a, b) = self._people[reader], shown
        choice = person.choose(a["prompt"], reply(a), reply(b))
        turned = self._chance.random() < self._flip
        if choice not in ("a", "b") or not (a["ids"] and b["ids"]):
            return None
        chosen, rejected = (a, b) if (choice == "a") is not turned else (b, a)
        return _preference(f"vote-{turn}-{reader}", person.name, f"pair-{turn}", chosen, rejected), _worth(
            chosen
        ) >= _worth(rejected)


def _worth(answer: dict) -> float:
    said = reply(answer)
    return utility(answer["prompt"], said.text, said.finished)


def _preference(id: str, user: str, item: str, chosen: dict, rejected: dict) -> Preference:
    return Preference(
        id=id, event_ids=(id,), prompt_ids=tuple(chosen["prompt_ids"]), user=user, conversation=id, time=0.0,
        source="simulated", item_id=item, chosen_ids=tuple(chosen["ids"]), rejected_ids=tuple(rejected["ids"]),
    )  # fmt: skip

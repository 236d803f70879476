"""Votes of simulated people on base's answers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.recipes.draw import answers, reply
from feedback.examples import Preference, Thumb
from heliotrope.simulate.people import Population
from heliotrope.simulate.utility import utility

DRAWS = 4
"""Base's answers to a prompt: two pairs to vote on, or four rivals at the end."""
PEOPLE = 100
SHARED, READERS = 60, 4
"""Pairs that several people are asked about, and how many of them."""
PASSERS_BY = 12
"""People who see an answer that somebody may press a thumb on; few do."""


def base_files(work: Path, tokens: int) -> tuple[Path, Path]:
    """Where base's answers of so many tokens are kept: to be voted on, and to be judged against."""
    return work / f"base-asked-{tokens}.jsonl", work / f"base-kept-{tokens}.jsonl"


@dataclass(frozen=True)
class Votes:
    """What one crowd says. decided: votes, each on a pair of its own; wrong: share of them that the hidden utility has
    the other way round. shared: what more people say of the first pairs, which tells how often votes are wrong. thumbs: each on an
    answer of its own, of pairs that nobody voted on."""

    decided: list[Preference]
    wrong: float
    shared: list[Preference]
    thumbs: list[Thumb]


def votes(file: Path, count: int, seed: int, flip: float = 0.0, thumbs: int = 0) -> Votes:
    """Of a crowd on `count` pairs, and so many thumbs. flip: share of all that is turned round by chance, beside what the crowd
    has wrong by itself. Raises ValueError when fewer are decided, or pressed."""
    crowd = Crowd(seed, flip)
    shown = [
        (drawn[i], drawn[i + 1]) for drawn in answers(file).values() for i in range(0, len(drawn) - 1, 2)
    ]
    random.Random(f"recipes {seed}").shuffle(shown)
    turns = iter(enumerate(shown))
    found = list(islice(filter(None, (crowd.vote(turn, pair, turn) for turn, pair in turns)), count))
    if len(found) < count:
        raise ValueError(f"only {len(found)} of {count} votes are decided; ask for fewer with --votes")
    left = [
        (f"{turn}-{side}", answer) for turn, pair in turns for side, answer in zip("ab", pair, strict=True)
    ]
    pressed = list(islice(filter(None, (crowd.press(*one) for one in left)), thumbs))
    if len(pressed) < thumbs:
        raise ValueError(f"only {len(pressed)} of {thumbs} thumbs are pressed; ask for fewer with --thumbs")
    again = [
        crowd.vote(turn, shown[turn], turn + reader)
        for turn in range(min(SHARED, len(shown)))
        for reader in range(1, READERS + 1)
    ]
    wrong = sum(not right for _, right in found) / count
    return Votes([vote for vote, _ in found], wrong, [said[0] for said in again if said], pressed)


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

    def press(self, place: str, answer: dict) -> Thumb | None:
        """The first thumb of those who pass by an answer; None when nobody presses one."""
        passing = (self._people[int(place.split("-")[0]) + number] for number in range(PASSERS_BY))
        presses = ((person, person.thumb(answer["prompt"], reply(answer))) for person in passing)
        person, press = next((found for found in presses if found[1]), (None, None))
        if person is None or not answer["ids"]:
            return None
        up = (press == "up") is not (self._chance.random() < self._flip)
        return Thumb(
            id=f"thumb-{place}", event_ids=(f"thumb-{place}",), prompt_ids=tuple(answer["prompt_ids"]), user=person.name,
            conversation=f"thumb-{place}", time=0.0, source="simulated", response_ids=tuple(answer["ids"]), up=up,
        )  # fmt: skip


def _worth(answer: dict) -> float:
    said = reply(answer)
    return utility(answer["prompt"], said.text, said.finished)


def _preference(id: str, user: str, item: str, chosen: dict, rejected: dict) -> Preference:
    return Preference(
        id=id, event_ids=(id,), prompt_ids=tuple(chosen["prompt_ids"]), user=user, conversation=id, time=0.0,
        source="simulated", item_id=item, chosen_ids=tuple(chosen["ids"]), rejected_ids=tuple(rejected["ids"]),
    )  # fmt: skip

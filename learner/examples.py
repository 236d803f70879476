"""What the learner is taught with: preferences, and how much each of them counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from heliotrope.errors import InvalidInput
from learner.rows import Row, make_row


class Preference(Protocol):
    """One person preferred one response to another; feedback/join.py builds these from the log."""

    @property
    def id(self) -> str:
        """Unique for this prompt and these two responses: what is kept about it is found under its id."""
        ...

    @property
    def prompt_ids(self) -> tuple[int, ...]: ...
    @property
    def chosen_ids(self) -> tuple[int, ...]: ...
    @property
    def rejected_ids(self) -> tuple[int, ...]: ...
    @property
    def user(self) -> str: ...
    @property
    def time(self) -> float:
        """Seconds since the epoch."""
        ...

    @property
    def weight(self) -> float:
        """How much it counts before age and person are looked at; 1 is usual."""
        ...

    @property
    def tie(self) -> bool:
        """Neither was preferred: chosen and rejected are just the two."""
        ...

    @property
    def strength(self) -> float:
        """How much better the chosen one is, 0 to 1; a margin for the reward model."""
        ...

    @property
    def held_out(self) -> bool:
        """Kept out of training, for the judge."""
        ...


def weights(
    preferences: Sequence[Preference],
    now: float,
    half_life: float,
    votes_per_person: float = 20,
    person_share: float = 0.01,
) -> list[float]:
    """How much each preference counts: 0.5^(age / half_life) times its own weight, then the cap per person.

    `now` and `half_life` are in seconds. One person's weights sum to at most min(votes_per_person,
    person_share * the sum over everybody) and are scaled down together beyond it, but never under what
    the heaviest single preference weighs: with fewer than 1 / person_share people all are cut alike.
    """
    aged = [p.weight * 0.5 ** (max(0.0, now - p.time) / half_life) for p in preferences]
    totals: dict[str, float] = defaultdict(float)
    for preference, weight in zip(preferences, aged, strict=True):
        totals[preference.user] += weight
    cap = max(min(votes_per_person, person_share * sum(aged)), max(aged, default=0.0))
    return [
        weight * min(1.0, cap / totals[preference.user]) if weight > 0 else 0.0
        for preference, weight in zip(preferences, aged, strict=True)
    ]


def rows_of(preferences: Sequence[Preference], max_tokens: int) -> tuple[list[Row], dict[str, str]]:
    """A shared-prefix row [prompt, chosen, rejected] each, and the reason by id of those that cannot be used."""
    rows, refused = [], {}
    for p in preferences:
        try:
            rows.append(make_row(p.id, p.prompt_ids, (p.chosen_ids, p.rejected_ids), max_tokens))
        except InvalidInput as error:
            refused[p.id] = str(error)
    return rows, refused

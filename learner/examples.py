"""How much each preference counts, and the row of tokens that it becomes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from feedback.examples import Example, Preference, Thumb
from heliotrope.errors import InvalidInput
from learner.rows import Row, make_row

__all__ = ["Preference", "rows_of", "teaches", "weights"]


def teaches(example: Example) -> bool:
    """Whether the policy may learn from it: it decides, and is not held out."""
    return not (example.held_out or (isinstance(example, Preference) and example.tie))


def weights(
    preferences: Sequence[Example],
    now: float,
    half_life: float,
    votes_per_person: float = 20,
    person_share: float = 0.01,
) -> list[float]:
    """How much each preference counts: 0.5^(age / half_life) times its own weight, then the cap per person.

    `now` and `half_life` are in seconds. One person's weights sum to at most min(votes_per_person,
    person_share * what everybody's weights then sum to) and are scaled down together beyond it, but never
    under what the heaviest single preference weighs: with fewer than 1 / person_share people all are cut alike.
    """
    aged = [p.weight * 0.5 ** (max(0.0, now - p.time) / half_life) for p in preferences]
    totals: dict[str, float] = defaultdict(float)
    for preference, weight in zip(preferences, aged, strict=True):
        totals[preference.user] += weight
    cap = _cap(totals, votes_per_person, person_share, floor=max(aged, default=0.0))
    return [
        weight * min(1.0, cap / totals[preference.user]) if weight > 0 else 0.0
        for preference, weight in zip(preferences, aged, strict=True)
    ]


def _cap(totals: Mapping[str, float], votes: float, share: float, floor: float) -> float:
    """The most that one person's weights may sum to: cutting the loud shrinks the whole, so it is found stepwise."""
    cap = float("inf")
    while True:
        whole = sum(min(total, cap) for total in totals.values())
        lower = max(min(votes, share * whole), floor)
        if lower >= cap * (1 - 1e-9):
            return cap
        cap = lower


def rows_of(judgements: Sequence[Preference | Thumb], max_tokens: int) -> tuple[list[Row], dict[str, str]]:
    """A shared-prefix row [prompt, chosen, rejected] of each preference, [prompt, response] of each thumb, and the reason by
    id of those that cannot be used."""
    rows, refused = [], {}
    for p in judgements:
        responses = (p.chosen_ids, p.rejected_ids) if isinstance(p, Preference) else (p.response_ids,)
        try:
            rows.append(make_row(p.id, p.prompt_ids, responses, max_tokens, p.bounds))
        except InvalidInput as error:
            refused[p.id] = str(error)
    return rows, refused

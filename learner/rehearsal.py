"""What one update learns from: everything new to the weights that it starts from, and a rehearsed part of the old."""

from __future__ import annotations

import random
from collections.abc import Sequence

from feedback.examples import Example, Preference
from heliotrope.policies import BASE, number
from heliotrope.registry import Registry


def lesson(
    preferences: Sequence[Example],
    shares: Sequence[float],
    learned: frozenset[str],
    rehearsal: float,
    seed: int,
) -> list[float]:
    """The shares, zero for what is left out: of what was `learned` before, `rehearsal` for each new preference stay.

    A weighted sample without replacement, by share, so that recent votes are rehearsed more often: the k largest of
    u^(1 / share), u uniform on (0, 1) (Efraimidis and Spirakis 2006, algorithm A). Passing over all of the old again
    learns its wrong votes by heart (docs/experiments.md); passing over none of it forgets.
    """
    trainable = [k for k, p in enumerate(preferences) if shares[k] > 0 and not (p.held_out or _tied(p))]
    new = [k for k in trainable if preferences[k].id not in learned]
    old = [k for k in trainable if preferences[k].id in learned]
    keys = {k: random.Random(f"{seed} {preferences[k].id}").random() ** (1 / shares[k]) for k in old}
    rehearsed = sorted(old, key=lambda k: keys[k], reverse=True)[: round(rehearsal * len(new))]
    kept = {*new, *rehearsed}
    return [share if k in kept else 0.0 for k, share in enumerate(shares)]


def learned_by(registry: Registry, version: str, among: Sequence[Example]) -> frozenset[str]:
    """Which of these preferences shaped the weights of `version`: its own examples and its ancestors'.

    The walk ends at base, or at the first ancestor that knew none of them: what came before it is older still.
    """
    ids = {p.id for p in among}
    found: set[str] = set()
    while version != BASE:
        manifest = registry.read(number(version)).manifest
        its_own = ids.intersection(manifest.example_ids)
        if not its_own:
            break
        found |= its_own
        version = manifest.parent
    return frozenset(found)


def _tied(example: Example) -> bool:
    return isinstance(example, Preference) and example.tie

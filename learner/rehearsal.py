"""What one update learns from: everything new to the weights that it starts from, and a rehearsed part of the old."""

from __future__ import annotations

import contextlib
import logging
import math
import random
from collections.abc import Callable, Sequence

from feedback.examples import Example
from heliotrope.errors import HeliotropeError
from heliotrope.policies import BASE, number
from heliotrope.registry import Registry
from learner.examples import teaches

log = logging.getLogger("heliotrope.learner")


Weigh = Callable[[Sequence[Example]], list[float]]
"""What each of these counts beside the others, such as `learner.examples.weights` gives."""


def lesson(
    preferences: Sequence[Example], weigh: Weigh, learned: frozenset[str], rehearsal: float, seed: str
) -> list[float]:
    """The shares, zero for what is left out: of what was `learned` before, `rehearsal` for each new preference stay.

    A weighted sample without replacement, by what each weighs beside all, so that recent votes are rehearsed more often: the k largest
    of u^(1 / share), u uniform on (0, 1), compared by their logarithms (Efraimidis and Spirakis 2006, algorithm A). `seed`
    differs from version to version, or the same few would be rehearsed each time. Passing over all of the old again
    learns its wrong votes by heart (docs/experiments.md); passing over none of it forgets. What stays is weighed anew beside what
    stays: nobody has more than their share of an update because the others' old votes are not in it.
    """
    shares = weigh(preferences)
    trainable = [k for k, p in enumerate(preferences) if shares[k] > 0 and teaches(p)]
    new = [k for k in trainable if preferences[k].id not in learned]
    old = [k for k in trainable if preferences[k].id in learned]
    keys = {k: math.log1p(-random.Random(f"{seed} {preferences[k].id}").random()) / shares[k] for k in old}
    rehearsed = sorted(old, key=lambda k: keys[k], reverse=True)[: round(rehearsal * len(new))]
    kept = sorted({*new, *rehearsed})
    weighed = dict(zip(kept, weigh([preferences[k] for k in kept]), strict=True))
    return [weighed.get(k, 0.0) for k in range(len(preferences))]


def learned_by(registry: Registry, version: str, among: Sequence[Example]) -> frozenset[str]:
    """Which of these preferences shaped the weights of `version`: its own examples and its ancestors'.

    Behind an ancestor that cannot be read, every older version counts as one.
    """
    found: set[str] = set()
    while version != BASE:
        try:
            manifest = registry.read(number(version)).manifest
        except HeliotropeError as error:
            log.warning("%s cannot be read, its elders are all taken for ancestors: %s", version, error)
            found.update(
                *(registry.read(n).manifest.example_ids for n in _readable(registry, number(version)))
            )
            break
        found.update(manifest.example_ids)
        version = manifest.parent
    return frozenset(p.id for p in among if p.id in found)


def _readable(registry: Registry, below: int) -> list[int]:
    readable = []
    for n in (n for n in registry.versions() if n < below):
        with contextlib.suppress(HeliotropeError):
            readable.append(registry.read(n).number or 0)
    return readable

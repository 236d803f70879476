"""What an older version said, and what a judgement of it still counts for.

Drift is measured by the trainer on both sides, never against what the engine logged: two implementations differ with
nothing wrong. docs/maths.md has the rule.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp

from feedback.examples import Example, Preference, Thumb
from heliotrope.errors import HeliotropeError
from heliotrope.policies import BASE, number
from heliotrope.registry import Registry
from learner.backbone import Backbone
from learner.lessons import lessons_of
from learner.prepared import PreparedStore, log_ratios
from learner.rows import Row

log = logging.getLogger("heliotrope.learner")

Ratios = Mapping[str, Sequence[float]]
"""log(version / base) of each response by row id, nats."""


@dataclass(frozen=True)
class Staleness:
    """What `discount` found. drift: mean |log(now / then)| of the responses of other versions, nats a token; 0 without any.
    effective: effective sample size of all shares as a part of those that are left, 0 to 1."""

    shares: list[float]
    drift: float = 0.0
    effective: float = 1.0


@dataclass(frozen=True)
class Trainer:
    """What says how likely a version finds a response. adapter: of the backbone, free to hold any version meanwhile."""

    backbone: Backbone
    store: PreparedStore
    registry: Registry
    adapter: str
    max_tokens: int
    token_budget: int

    def ratios(self, version: str, rows: Sequence[Row]) -> Ratios:
        """See `Ratios`. Raises HeliotropeError for a version that cannot be read."""
        if version == BASE:
            return {row.id: [0.0] * len(row.responses) for row in rows}
        self.backbone.load_adapter(self.adapter, self.registry.read(number(version)).path)
        found = log_ratios(self.backbone, rows, self.store, self.adapter, self.token_budget)
        return {id: ratios.tolist() for id, ratios in found.items()}


def versions_of(example: Example) -> tuple[str, ...]:
    """Which version said each response, in its row's order; empty for what a person wrote, or nobody knows."""
    match example:
        case Preference():
            return example.chosen_version, example.rejected_version
        case Thumb():
            return (example.version,)
        case _:
            return ("",)


def factor(drifts: Sequence[float]) -> float:
    """What a judgement counts for whose responses have drifted so far: the product over them of min(1, exp(drift)).

    drifts: [log pi_now(y | x) - log pi_then(y | x)] / |y| of each response, nats a token. Zhou et al. 2024, arXiv
    2406.11827, eq. 4, weigh a pair by the policy's own length-normalised likelihood of both responses; here it is that
    likelihood relative to the version that spoke, so that what today's weights say as gladly counts in full, and no more.
    """
    whole = 1.0
    for drift in drifts:
        whole *= min(1.0, exp(drift))
    return whole


def effective(shares: Sequence[float], factors: Sequence[float]) -> float:
    """Kish's effective sample size of discounted shares over that of the shares, 0 to 1: 1 where nothing is discounted.

    (sum s f)^2 / sum (s f)^2, over (sum s)^2 / sum s^2. Kish 1965, "Survey Sampling", section 11.7.
    """
    left = [s * f for s, f in zip(shares, factors, strict=True)]
    whole = sum(s * s for s in shares) * sum(left) ** 2
    return whole / (sum(s * s for s in left) * sum(shares) ** 2) if any(left) else 1.0


def discount(trainer: Trainer, now: str, examples: Sequence[Example], shares: Sequence[float]) -> Staleness:
    """Shares of a training from the weights of `now`, less for what these would no longer say.

    What an unreadable version said counts in full: its drift is unknown.
    """
    stale = {
        e.id: (e, share)
        for e, share in zip(examples, shares, strict=True)
        if share > 0 and any(version not in ("", now) for version in versions_of(e))
    }
    if not stale:
        return Staleness(list(shares))
    lessons, _ = lessons_of(
        [e for e, _ in stale.values()], {id: s for id, (_, s) in stale.items()}, trainer.max_tokens
    )
    spoke = {id: versions_of(e) for id, (e, _) in stale.items()}
    drifts = _drifts(trainer, now, [lesson.row for lesson in lessons], spoke)
    factors = [factor(drifts.get(e.id, ())) for e in examples]
    sizes = [abs(d) for e in drifts.values() for d in e if d]
    mean = sum(sizes) / len(sizes) if sizes else 0.0
    kept = [share * f for share, f in zip(shares, factors, strict=True)]
    return Staleness(kept, mean, effective(shares, factors))


def _drifts(
    trainer: Trainer, now: str, rows: Sequence[Row], spoke: Mapping[str, Sequence[str]]
) -> dict[str, list[float]]:
    """Of each response, nats a token; 0 for what `now`, a person or nobody known said."""
    here = trainer.ratios(now, rows)
    found = {row.id: [0.0] * len(row.responses) for row in rows}
    for version in sorted({v for row in rows for v in spoke[row.id]} - {"", now}):
        those = [row for row in rows if version in spoke[row.id]]
        try:
            then = trainer.ratios(version, those)
        except HeliotropeError as error:
            log.warning("what %s said counts in full, its drift is unknown: %s", version, error)
            continue
        for row in those:
            for place, (response, speaker) in enumerate(zip(row.responses, spoke[row.id], strict=True)):
                if speaker == version:
                    found[row.id][place] = (here[row.id][place] - then[row.id][place]) / len(response)
    return found

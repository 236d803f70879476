"""Figures of a policy update: what a step cost, and whether what it taught was known already."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

PerLesson = Float[Tensor, "lessons"]


@dataclass(frozen=True)
class PairMetrics:
    """Means over pairs and thumbs, each weighted as in training; loss over demonstrations too."""

    loss: float
    """DPO's, KTO's and SFT's own, without what `dpo.sft_weight` adds; nats for logistic losses."""
    accuracy: float
    """Share whose chosen response has the higher implicit reward, or whose thumb points the way that the policy went;
    an exact tie counts half. NaN where there was neither."""
    margin: float
    """Implicit reward of chosen minus rejected, or of a thumb's response beyond the reference point, nats."""
    kl: float
    """Mean log(reference / policy) of the responses, nats a response: where base wrote them, an unbiased
    estimate of KL(base || policy)."""


@dataclass(frozen=True)
class Progress:
    """After one optimiser step."""

    step: int
    steps: int
    metrics: PairMetrics
    """Of the step's examples, before the step learned from them."""
    pairs_per_second: float
    """Examples of any kind."""
    grad_norm: float
    """Of the whole gradient, before it was clipped."""


@dataclass(frozen=True)
class Measured:
    """One number for each lesson of a batch, without gradient. margins, kl: NaN for demonstrations."""

    weights: PerLesson
    losses: PerLesson
    margins: PerLesson
    kl: PerLesson


def summary(parts: Sequence[Measured]) -> PairMetrics:
    """Weighted means over all the parts."""
    weights, losses, margins, kl = (
        torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Measured)
    )
    judged, compared = ~margins.isnan(), ~kl.isnan()
    right = torch.where(margins == 0, 0.5, (margins > 0).float())

    def mean(values: Tensor, share: Tensor) -> float:
        return float((share * values).sum() / share.sum())

    accuracy, margin = (mean(values[judged], weights[judged]) for values in (right, margins))
    return PairMetrics(mean(losses, weights), accuracy, margin, mean(kl[compared], weights[compared]))


def merge(history: Sequence[PairMetrics]) -> PairMetrics:
    """Means over steps, a step without a figure left out of that figure."""

    def mean(name: str) -> float:
        values = [value for item in history if not math.isnan(value := getattr(item, name))]
        return sum(values) / len(values) if values else math.nan

    return PairMetrics(mean("loss"), mean("accuracy"), mean("margin"), mean("kl"))

"""What several losses are made of: shapes, cross-entropy with an unsure label, weighted sums."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

PerPair = Float[Tensor, "pairs"]
PairFlags = Bool[Tensor, "pairs"]
PerResponse = Float[Tensor, "responses"]
ResponseFlags = Bool[Tensor, "responses"]
Scalar = Float[Tensor, ""]


class Both(NamedTuple):
    """One number for each response of a pair: log-probabilities in nats, or lengths in tokens."""

    chosen: PerPair
    rejected: PerPair


def cross_entropy(logits: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy in nats between sigmoid(logit) and the label 1 - smoothing; any shape."""
    return -(1 - smoothing) * logsigmoid(logits) - smoothing * logsigmoid(-logits)


def total(losses: Tensor, weights: Tensor | None) -> Scalar:
    """Sum of weight times loss; without weights the mean."""
    return losses.mean() if weights is None else (weights * losses).sum()

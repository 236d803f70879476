"""The losses, pure: tensors and floats in, a small named result out. docs/maths.md derives the signs.

Log-probabilities and log-ratios are in nats, of a whole response: the sum over its tokens.
`weights` are each pair's share of the loss; left out, every pair has the share 1 / pairs, which makes
the loss a mean. A step that is cut into several calls passes shares of the whole step and adds the results.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

PerPair = Float[Tensor, "pairs"]
PairFlags = Bool[Tensor, "pairs"]
Scalar = Float[Tensor, ""]


class DpoLoss(NamedTuple):
    """`loss` is a scalar to minimise; the others are one number a pair, without gradient."""

    loss: Scalar
    losses: PerPair
    """Each pair's loss before weighting, nats."""
    chosen_rewards: PerPair
    """beta * log(policy / reference) of the chosen response, nats."""
    rejected_rewards: PerPair
    """The same of the rejected response."""

    @property
    def margins(self) -> PerPair:
        """By how much the implicit reward prefers the chosen response; a pair is right when it is above 0."""
        return self.chosen_rewards - self.rejected_rewards


class BradleyTerryLoss(NamedTuple):
    """`loss` is a scalar to minimise; the others are one number a pair, without gradient."""

    loss: Scalar
    losses: PerPair
    """Each pair's loss before weighting, nats."""
    margins: PerPair
    """Chosen reward minus rejected reward."""


def dpo(
    policy_chosen: PerPair,
    policy_rejected: PerPair,
    ref_chosen: PerPair,
    ref_rejected: PerPair,
    beta: float,
    weights: PerPair | None = None,
    label_smoothing: float = 0.0,
) -> DpoLoss:
    """The policy is its own reward model: raise the chosen log-ratio over the rejected one.

        m = beta * [(log pi(y_w) - log ref(y_w)) - (log pi(y_l) - log ref(y_l))]
        loss = sum_i w_i * [-(1 - eps) * log sigmoid(m_i) - eps * log sigmoid(-m_i)]

    With eps = 0: Rafailov et al. 2023, Direct Preference Optimization, arXiv 2305.18290, eq. 7.
    With eps > 0, the chance that a label is wrong: Mitchell 2023, "A note on DPO with noisy preferences
    & relationship to IPO", eq. 3 (conservative DPO).

    Shapes: log-probabilities in nats, one a pair. beta > 0 is the strength of the pull towards the
    reference; 0 <= eps < 0.5.
    """
    chosen = beta * (policy_chosen - ref_chosen)
    rejected = beta * (policy_rejected - ref_rejected)
    losses = _cross_entropy(chosen - rejected, label_smoothing)
    return DpoLoss(_total(losses, weights), losses.detach(), chosen.detach(), rejected.detach())


def bradley_terry(
    chosen_rewards: PerPair,
    rejected_rewards: PerPair,
    margin: PerPair | float = 0.0,
    weights: PerPair | None = None,
    ties: PairFlags | None = None,
) -> BradleyTerryLoss:
    """The chance that the chosen response wins is a logistic function of the difference of two rewards.

        d = r(y_w) - r(y_l)
        loss = sum_i w_i * -log sigmoid(d_i - margin_i)                     a decided pair
        loss = sum_i w_i * [-log sigmoid(d_i) - log sigmoid(-d_i)] / 2      a tie: least, log 2, at d = 0

    Bradley & Terry 1952, "Rank analysis of incomplete block designs I", eq. 1; as a loss Ouyang et al. 2022,
    arXiv 2203.02155, eq. 1; the margin, in reward units and larger for stronger preferences, is Touvron et
    al. 2023, arXiv 2307.09288, eq. 2. A tie is the cross-entropy to the label 1/2.

    Shapes: one reward a response, one entry a pair. A tie ignores its margin.
    """
    difference = chosen_rewards - rejected_rewards
    losses = _cross_entropy(difference - margin, 0.0)
    if ties is not None:
        losses = torch.where(ties, _cross_entropy(difference, 0.5), losses)
    return BradleyTerryLoss(_total(losses, weights), losses.detach(), difference.detach())


def _cross_entropy(margins: PerPair, smoothing: float) -> PerPair:
    """Cross-entropy in nats between sigmoid(margin) and the label 1 - smoothing."""
    return -(1 - smoothing) * logsigmoid(margins) - smoothing * logsigmoid(-margins)


def _total(losses: PerPair, weights: PerPair | None) -> Scalar:
    return losses.mean() if weights is None else (weights * losses).sum()

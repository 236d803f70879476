"""Losses of the reward model: comparisons, rankings, thumbs, and a pull of all rewards to 0."""

from __future__ import annotations

from typing import NamedTuple

import torch

from learner.losses.terms import (
    PairFlags,
    PerPair,
    PerResponse,
    ResponseFlags,
    Scalar,
    cross_entropy,
    total,
)


class BradleyTerryLoss(NamedTuple):
    """`loss` is a scalar to minimise; the others are one number a pair, without gradient."""

    loss: Scalar
    losses: PerPair
    """Each pair's loss before weighting, nats."""
    margins: PerPair
    """Chosen reward minus rejected reward."""


class ThumbLoss(NamedTuple):
    """`loss` is a scalar to minimise; the others are one number a response, without gradient."""

    loss: Scalar
    losses: PerResponse
    """Each response's loss before weighting, nats."""
    logits: PerResponse
    """Log-odds of a thumb up."""


def bradley_terry(
    chosen_rewards: PerPair,
    rejected_rewards: PerPair,
    margin: PerPair | float = 0.0,
    weights: PerPair | None = None,
    ties: PairFlags | None = None,
    beta: float = 1.0,
) -> BradleyTerryLoss:
    """The chance that the chosen response wins is a logistic function of the difference of two rewards.

        d = r(y_w) - r(y_l)
        loss = sum_i w_i * -log s(beta * (d_i - margin_i))                        a decided pair
        loss = sum_i w_i * [-log s(beta * d_i) - log s(-beta * d_i)] / 2          a tie: least, log 2, at d = 0

    Bradley & Terry 1952, "Rank analysis of incomplete block designs I", eq. 1; as a loss Ouyang et al. 2022,
    arXiv 2203.02155, eq. 1; the margin, in reward units and larger for stronger preferences, is Touvron et
    al. 2023, arXiv 2307.09288, eq. 2. A tie is the cross-entropy to the label 1/2. Trajectory-ranked reward
    extrapolation (Brown et al. 2019, arXiv 1904.06387, eq. 3) is the same with r the sum over a trajectory; beta, the
    inverse temperature, is how much people's choices are trusted to follow it (Brown et al. 2020, arXiv 2002.09089):
    beta -> 0 makes every choice a coin, beta -> infinity only asks for the order.

    Shapes: one reward a response, one entry a pair. A tie ignores its margin.
    """
    difference = chosen_rewards - rejected_rewards
    losses = cross_entropy(beta * (difference - margin), 0.0)
    if ties is not None:
        losses = torch.where(ties, cross_entropy(beta * difference, 0.5), losses)
    return BradleyTerryLoss(total(losses, weights), losses.detach(), difference.detach())


def pointwise(
    rewards: PerResponse,
    ups: ResponseFlags,
    bias: PerResponse | Scalar | float = 0.0,
    weights: PerResponse | None = None,
) -> ThumbLoss:
    """A thumb is a coin whose log-odds are the reward plus a bias: how generous the giver is anyway.

        z = r(y) + b
        loss = sum_i w_i * -log s(z_i)  for a thumb up,  -log s(-z_i)  for a thumb down

    Logistic regression: Cox 1958, "The regression analysis of binary sequences", section 2. Without b, people who mostly
    press up would push all rewards up, though only differences mean anything.

    Shapes: one reward and one flag a response; the bias may be learned, one for all or one for each (its giver's).
    """
    logits = rewards + bias
    losses = cross_entropy(torch.where(ups, logits, -logits), 0.0)
    return ThumbLoss(total(losses, weights), losses.detach(), logits.detach())


def centring(chosen_rewards: PerPair, rejected_rewards: PerPair, weights: PerPair | None = None) -> Scalar:
    """Keep rewards about 0, which no comparison does: sum_i w_i * (r(y_w) + r(y_l))^2.

    Eisenstein et al. 2023, arXiv 2312.09244, eq. 2; to be added times a small coefficient (0.01 there).
    Shapes: one reward a response; the result in squared reward units.
    """
    return total((chosen_rewards + rejected_rewards) ** 2, weights)

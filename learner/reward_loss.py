"""The reward model's loss on a batch that may hold comparisons and thumbs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Float
from torch import Tensor

from feedback.examples import Preference, Thumb
from learner.losses import bradley_terry, centring, pointwise

Judgement = Preference | Thumb
"""What says something of rewards: a comparison of two, or a thumb on one."""
Shared = tuple[Judgement, float]
"""A judgement and its share of the step."""
PerResponse = Float[Tensor, "responses"]


@dataclass(frozen=True)
class RewardForm:
    """margin: asked of the strongest preference, reward units. centring: pull of pairs' rewards to 0, per squared unit.
    bias: log-odds of a thumb up on a response of reward 0. beta: inverse temperature of comparisons."""

    margin: float = 0.0
    centring: float = 0.0
    bias: float = 0.0
    beta: float = 1.0


def generosity(judgements: Iterable[Judgement]) -> float:
    """What people press anyway: log((ups + 1) / (downs + 1)), 0 where there are as many of both, or none."""
    ups = [e.up for e in judgements if isinstance(e, Thumb)]
    return log((sum(ups) + 1) / (len(ups) - sum(ups) + 1))


def judged_loss(
    rewards: PerResponse, judged: Sequence[Shared], form: RewardForm
) -> tuple[Tensor, dict[str, float]]:
    """The batch's part of the step's loss, nats, and the margin of each pair by id, without gradient.

    rewards: of each judgement's responses in order: chosen and rejected of a pair, one of a thumb.
    """
    pairs, thumbs, place = [], [], 0
    for example, share in judged:
        if isinstance(example, Preference):
            pairs.append((place, example, share))
            place += 2
        else:
            thumbs.append((place, example, share))
            place += 1
    said, margins = _pairs(rewards, pairs, form) if pairs else (rewards.new_zeros(()), {})
    return (said + _thumbs(rewards, thumbs, form.bias) if thumbs else said), margins


def _pairs(
    rewards: PerResponse, pairs: Sequence[tuple[int, Preference, float]], form: RewardForm
) -> tuple[Tensor, dict[str, float]]:
    places, examples, given = zip(*pairs, strict=True)
    first, shares = torch.tensor(places), rewards.new_tensor(given)
    chosen, rejected = rewards[first], rewards[first + 1]
    margin = form.margin * rewards.new_tensor([e.strength for e in examples])
    ties = torch.tensor([e.tie for e in examples], device=rewards.device)
    out = bradley_terry(chosen, rejected, margin, shares, ties, form.beta)
    loss = out.loss + form.centring * centring(chosen, rejected, shares)
    return loss, dict(zip([e.id for e in examples], out.margins.tolist(), strict=True))


def _thumbs(rewards: PerResponse, thumbs: Sequence[tuple[int, Thumb, float]], bias: float) -> Tensor:
    places, examples, given = zip(*thumbs, strict=True)
    ups = torch.tensor([e.up for e in examples], device=rewards.device)
    return pointwise(rewards[torch.tensor(places)], ups, bias, rewards.new_tensor(given)).loss

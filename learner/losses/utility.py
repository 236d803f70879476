"""Kahneman-Tversky optimisation: unpaired thumbs, each against how far the policy has moved anyway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from learner.losses.terms import PerResponse, ResponseFlags, Scalar, total

LARGEST = 4 / 3
"""Thumbs up may outweigh thumbs down by this much in all."""


class KtoLoss(NamedTuple):
    """`loss` is a scalar to minimise; the others are one number a response, without gradient."""

    loss: Scalar
    losses: PerResponse
    """Each response's loss, its kind's weight included, 0 to that weight."""
    margins: PerResponse
    """beta * (log-ratio - z0), turned round for thumbs down; a thumb is right when it is above 0."""


@dataclass(frozen=True)
class ThumbCounts:
    """How many thumbs there have been so far, on a stream or in a window, or what they weigh; `weights` may be asked at any time."""

    ups: float = 0
    downs: float = 0

    def weights(self) -> tuple[float, float]:
        """(lambda_up, lambda_down) with 1 <= lambda_up * ups / (lambda_down * downs) <= 4/3, the smaller one being 1.

        Ethayarajh et al. 2024, arXiv 2402.01306, eq. 8 (v3: 4/3; later versions allow 3/2). Both are 1 while only one
        kind has been seen: there is nothing to balance.
        """
        if not (self.ups and self.downs):
            return 1.0, 1.0
        ratio = self.ups / self.downs
        return max(1.0, 1 / ratio), max(1.0, ratio / LARGEST)


def reference_point(log_ratios: PerResponse) -> Scalar:
    """z0: how much likelier the policy makes texts than the reference whatever they are, in nats; no gradient.

        z0 = max(0, mean_i log pi(y_j | x_i) / ref(y_j | x_i)),  y_j a response to another prompt than x_i

    Ethayarajh et al. 2024, arXiv 2402.01306, section 4.2. Shape: one log-ratio a mismatched pair; none gives 0.
    """
    if not len(log_ratios):
        return log_ratios.new_zeros(())
    return log_ratios.detach().mean().clamp(min=0)


def kto(
    log_ratios: PerResponse,
    ups: ResponseFlags,
    beta: float,
    z0: Scalar,
    balance: tuple[float, float] = (1.0, 1.0),
    weights: PerResponse | None = None,
) -> KtoLoss:
    """Push a liked response above the reference point and a disliked one below it; surprises saturate.

        m_i  = beta * (log pi(y_i) / ref(y_i) - z0)   for a thumb up,  the negative of it for a thumb down
        loss = sum_i w_i * lambda_i * (1 - s(m_i))

    Ethayarajh et al. 2024, arXiv 2402.01306, eq. 7 (their constant lambda_y is part of the loss here, so it is >= 0).
    `balance` is (lambda_up, lambda_down) of `ThumbCounts.weights`. A batch of one kind only is fine.

    Shapes: log-ratios in nats, one a response; beta in 1 / nats; z0 in nats, treated as a constant.
    """
    signed = beta * (log_ratios - z0.detach())
    margins = torch.where(ups, signed, -signed)
    factors: Tensor = torch.where(ups, *margins.new_tensor(balance))
    losses = factors * torch.sigmoid(-margins)
    return KtoLoss(total(losses, weights), losses.detach(), margins.detach())

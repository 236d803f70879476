"""What every training here shares: the schedule of the step size, and one optimiser step over rows cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from learner.rows import Batch, Row, batches


@dataclass(frozen=True)
class Taken:
    """One optimiser step: the sum of its batches' losses before it, nats, and the gradient's norm before it was clipped."""

    loss: float
    grad_norm: float

    @property
    def finite(self) -> bool:
        """Whether it was taken at all."""
        return isfinite(self.loss) and isfinite(self.grad_norm)


def schedule(step: int, steps: int) -> float:
    """Factor of the learning rate: up over the first tenth of the steps, then down to a tenth, linearly."""
    warm = max(1, steps // 10)
    return step / warm if step <= warm else 1 - 0.9 * (step - warm) / max(1, steps - warm)


def optimiser(parameters: Sequence[nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
    """AdamW without weight decay: B = 0 is the base, and nothing else should pull there."""
    return torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)


def step(
    optimiser: torch.optim.Optimizer,
    rows: Sequence[Row],
    loss: Callable[[Batch], Tensor],
    token_budget: int,
    learning_rate: float,
    grad_clip: float = 1.0,
) -> Taken:
    """One optimiser step; a parameter group of the optimiser may say how many `times` the learning rate is its own.

    `loss` gives a batch's part of the step's loss: shares of one step sum to one over its batches. A loss or gradient that
    is not finite leaves the parameters as they were.
    """
    parts = []
    for batch in batches(rows, token_budget):
        part = loss(batch)
        part.backward()
        parts.append(part.detach())
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, grad_clip)
    taken = Taken(float(torch.stack(parts).sum()), float(norm))
    for group in optimiser.param_groups:
        group["lr"] = learning_rate * group.get("times", 1.0)
    if taken.finite:
        optimiser.step()
    optimiser.zero_grad()
    return taken

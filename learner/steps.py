"""What every training here shares: the schedule of the step size, and one optimiser step over rows cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from learner.kernels.fill import filled
from learner.rows import Batch, Row, batches
from learner.workers import side_by_side, workers_on

Figures = TypeVar("Figures")
Work = Callable[[], tuple[Tensor, Figures]]
"""A batch's part of the step's loss, and whatever is to be known of it. May run in any thread, beside other batches' work."""


@dataclass(frozen=True)
class Taken(Generic[Figures]):
    """One optimiser step: the sum of its batches' losses before it, nats, the gradient's norm before it was clipped, and what
    is to be known of each batch."""

    loss: float
    grad_norm: float
    figures: tuple[Figures, ...] = ()

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


def cut(rows: Sequence[Row], token_budget: int, device: torch.device) -> tuple[list[Batch], int]:
    """Batches, and how many of them go side by side: together they have `token_budget` positions at most, where no single row is
    longer."""
    longest = max((filled(len(row)) for row in rows), default=1)
    workers = max(1, min(workers_on(device), token_budget // longest))
    return batches(rows, token_budget // workers, workers), workers


def step(
    optimiser: torch.optim.Optimizer,
    works: Sequence[Work[Figures]],
    workers: int,
    learning_rate: float,
    grad_clip: float = 1.0,
) -> Taken[Figures]:
    """One optimiser step; a parameter group of the optimiser may say how many `times` the learning rate is its own.

    Shares of one step sum to one over its works. A loss or gradient that is not finite leaves the parameters as they were.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    losses, figures = [], []
    optimiser.zero_grad()  # a step that raised has left some
    for loss, grads, said in side_by_side(partial(_backward, parameters), works, workers):
        losses.append(loss)
        figures.append(said)
        _add(parameters, grads)
    norm = torch.nn.utils.clip_grad_norm_(parameters, grad_clip)
    taken = Taken(float(torch.stack(losses).sum()), float(norm), tuple(figures))
    for group in optimiser.param_groups:
        group["lr"] = learning_rate * group.get("times", 1.0)
    if taken.finite:
        optimiser.step()
    optimiser.zero_grad()
    return taken


Grads = tuple[Tensor | None, ...]


def _backward(parameters: Sequence[nn.Parameter], work: Work[Figures]) -> tuple[Tensor, Grads, Figures]:
    loss, figures = work()
    return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True), figures


def _add(parameters: Sequence[nn.Parameter], grads: Grads) -> None:
    for parameter, grad in zip(parameters, grads, strict=True):
        if grad is not None:
            # AdamW in one pass takes what lies in memory in its order, whatever the strides (torch 2.13, CPU).
            parameter.grad = grad.contiguous() if parameter.grad is None else parameter.grad.add_(grad)

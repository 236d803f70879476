"""One optimiser step: the norm is the gradient's own, and what is not finite moves nothing."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from learner.rows import Batch, batches, make_row
from learner.steps import optimiser, step

ROWS = [make_row(str(n), (1, 2), ((3,), (4,)), 99) for n in range(4)]


def take(parameter: nn.Parameter, slope: float, budget: int = 10_000):
    def loss(batch: Batch) -> tuple[Tensor, int]:
        return slope * parameter.sqrt().sum() * len(batch.ids) / len(ROWS), len(batch.ids)

    works = [partial(loss, batch) for batch in batches(ROWS, budget)]
    return step(optimiser([parameter], 0.1), works, 1, 0.1)


def test_a_group_of_parameters_may_have_so_many_times_the_step() -> None:
    slow, fast = (nn.Parameter(torch.tensor([4.0])) for _ in range(2))
    adam = optimiser([slow], 0.1)
    adam.add_param_group({"params": [fast], "times": 10.0})
    step(adam, [lambda: (slow.sum() + fast.sum(), None)], 1, 0.1)
    assert [slow.item(), fast.item()] == pytest.approx([3.9, 3.0], abs=1e-4), (
        "Adam's first step has the step size"
    )


@pytest.mark.parametrize("budget", [10_000, 8])
def test_the_norm_is_of_the_whole_gradient_before_it_is_clipped(budget: int) -> None:
    parameter = nn.Parameter(torch.tensor([4.0, 4.0]))
    taken = take(parameter, 12.0, budget)
    # 12 (2 + 2) = 48; each slope 12 / (2 sqrt 4) = 3, the norm 3 sqrt 2, over one batch or several
    assert taken.loss == pytest.approx(48.0) and taken.grad_norm == pytest.approx(3 * math.sqrt(2))
    assert taken.finite and sum(taken.figures) == len(ROWS)
    assert parameter.tolist() == pytest.approx([3.9, 3.9], abs=1e-4), "Adam's first step has the step size"


def test_a_finite_loss_with_an_infinite_slope_moves_nothing() -> None:
    parameter = nn.Parameter(torch.tensor([0.0, 4.0]))
    taken = take(parameter, 1.0)
    assert taken.loss == 2.0 and not math.isfinite(taken.grad_norm) and not taken.finite
    assert parameter.tolist() == [0.0, 4.0] and parameter.grad is None


def test_a_gradient_that_lies_transposed_in_memory_moves_its_own_weights() -> None:
    parameter = nn.Parameter(torch.zeros(2, 3))
    slopes = torch.tensor([[1.0, 1.0, -1.0], [-1.0, 1.0, -1.0]])
    step(
        optimiser([parameter], 0.1), [lambda: ((parameter.t() * slopes.t().contiguous()).sum(), None)], 1, 0.1
    )
    assert torch.allclose(parameter, -0.1 * slopes, atol=1e-4), "Adam's first step has the step size"

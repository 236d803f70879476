"""Frozen matrices in the order in which a processor multiplies them.

Every product puts its matrix into that order first: of one with few rows that is a quarter of the time (docs/experiments.md, "The
learner's core"). A copy that stays in it costs as much memory as the matrix.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import linear

ROWS = 320
"""The order is right for any number of rows, and chosen for so many."""


def laid(weight: Tensor) -> Tensor | None:
    """A copy of [out, in] in that order; None where torch has no such (other devices, other precisions), or where products with it
    would have other bits: what a row is prepared as must not depend on how many others are (docs/decisions/rows-are-prepared-alone.md).
    """
    fits = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    return _ordered(weight) if fits and available() and _same_bits(*weight.shape) else None


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, ordered: Tensor | None = None) -> Tensor:
    """x W^T + c, with W's copy of `laid` faster, and without a gradient. [..., in] -> [..., out]."""
    if ordered is None:
        return linear(x, weight, bias)
    assert not (torch.is_grad_enabled() and x.requires_grad)
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, ordered, bias, "none", [], "")
    return result


def available() -> bool:
    """Whether torch can order matrices of bfloat16 on this machine."""
    built = torch.backends.mkldnn.is_available()
    return built and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _ordered(weight: Tensor) -> Tensor:
    ordered: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
    return ordered


@cache
def _same_bits(out: int, width: int) -> bool:
    """Two kernels multiply, each in an order of its own; where they differ a product of random numbers does."""
    g = torch.Generator("cpu").manual_seed(0)
    x, weight = (torch.randn(n, width, generator=g).bfloat16() for n in (ROWS, out))
    with torch.no_grad():
        return torch.equal(product(x, weight, None, _ordered(weight)), linear(x, weight))

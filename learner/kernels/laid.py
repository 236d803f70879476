"""Frozen matrices in the order in which a processor multiplies them.

Every product puts its matrix into that order first: of one with few rows that is a quarter of the time (docs/experiments.md, "The
learner's core"). A copy that stays in it costs as much memory as the matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

ROWS = 320
"""The order is right for any number of rows, and chosen for so many."""


def laid(weight: Tensor) -> Tensor | None:
    """A copy of [out, in] in that order; None where torch has no such: other devices, other precisions."""
    fits = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    if not (fits and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return None
    ordered: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
    return ordered


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, ordered: Tensor | None = None) -> Tensor:
    """x W^T + c, to the bit the same with W's copy of `laid` as without; with it no gradient. [..., in] -> [..., out]."""
    if ordered is None:
        return linear(x, weight, bias)
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, ordered, bias, "none", [], "")
    return result

"""Linears of one input and what an adapter adds to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from learner.kernels.laid import product


@dataclass(frozen=True)
class Linears:
    """x W_i^T + c_i + s (x A_i^T) B_i^T for several i of one x, with W and c frozen: one product of [x | x A^T] and P^T, where P
    has the W_i one above the other and beside them s B_i, each in the columns of its own A_i. Without an adapter P is W.

    PEFT passes three more times over every activation. In bfloat16 one product, rounded once, keeps a small update: merged into W, or
    added to what has been rounded, most of it would be lost. Backwards the same P gives g_i W_i summed up, and s g_i B_i, at once.
    P and A are made by whoever trains (`learner/packed.py`), in the precision of x, and not watched: until backward they must stay as they
    are. What A and B get is their gradient. Hu et al. 2021, LoRA, arXiv 2106.09685, eq. 3.
    """

    matrix: Tensor
    """P, [sum of out, in + sum of ranks]."""
    sizes: Sequence[int]
    """Numbers that each linear gives."""
    bias: Tensor | None = None
    """c, [sum of out]."""
    downs: Tensor | None = None
    """Every A one above the other, [sum of ranks, in]; None: no adapter is on."""
    scale: float = 1.0
    ordered: Tensor | None = None
    """W's copy of `laid`, where no adapter is on."""

    @property
    def room(self) -> int:
        """Columns that x A^T takes behind x."""
        return 0 if self.downs is None else len(self.downs)

    def forwards(self, roomy: Tensor) -> Tensor:
        """What they make of x, side by side, [positions, sum of out]. roomy: x with `room` behind it, which is filled, [positions, in + room]."""
        if self.downs is None:
            return product(roomy, self.matrix, self.bias, self.ordered)
        x, narrow = self.parted(roomy)
        narrow.copy_(linear(x, self.downs))
        return linear(roomy, self.matrix, self.bias)

    def parted(self, roomy: Tensor) -> tuple[Tensor, Tensor]:
        """x and x A^T."""
        width = roomy.shape[1] - self.room
        return roomy[:, :width], roomy[:, width:]

    def backwards(
        self, grad: Tensor, x: Tensor, narrow: Tensor, wanted: bool = True
    ) -> tuple[Tensor, list[Tensor]]:
        """The gradient on x, of no width where it is not wanted, and on each A and B in turn, from that on what they gave."""
        assert self.downs is not None
        width, ranks = x.shape[1], len(self.downs)
        pulled = grad @ (self.matrix if wanted else self.matrix[:, width:])
        bent = pulled[:, -ranks:]
        of_downs = (bent.t() @ x).split(ranks // len(self.sizes))
        each = zip(narrow.split(ranks // len(self.sizes), 1), grad.split(list(self.sizes), 1), strict=True)
        of_ups = [(part.t() @ g * self.scale).t() for part, g in each]
        factors = [factor for pair in zip(of_downs, of_ups, strict=True) for factor in pair]
        return pulled[:, :width].addmm_(bent, self.downs) if wanted else pulled[:, :0], factors


class LowRankLinears(torch.autograd.Function):
    """`Linears` of an x that has no room behind it. factors: A [rank, in] and B [out, rank] of each in turn. [..., in] -> [..., sum of out]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linears: Linears, *factors: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        roomy = torch.cat([flat, flat.new_empty(len(flat), linears.room)], 1)
        result = linears.forwards(roomy)
        ctx.save_for_backward(x, linears.parted(roomy)[1].clone())
        ctx.linears = linears
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        x, narrow = ctx.saved_tensors
        flat, given = (part.reshape(-1, part.shape[-1]) for part in (x, grads[0]))
        wanted = ctx.needs_input_grad[0]
        grad, factors = ctx.linears.backwards(given, flat, narrow, wanted)
        return grad.view(x.shape) if wanted else None, None, *factors

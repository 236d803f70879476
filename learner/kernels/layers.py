"""A layer's linears, norm and gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from learner.kernels.passes import passes

Factors = Sequence[Tensor]
"""A [rank, in] and B [out, rank] of each linear of one input, in turn."""


class LowRankLinears(torch.autograd.Function):
    """x W_i^T + c_i + s (x A_i^T) B_i^T for several i of one x, with W and c frozen: one product of [x | x A^T] and P^T, where P
    has the W_i one above the other and beside them s B_i, each in the columns of its own A_i.

    PEFT passes three more times over every activation. In bfloat16 one product, rounded once, keeps a small update: merged into W, or
    added to what has been rounded, most of it would be lost. Backwards the same P gives g_i W_i summed up, and s g_i B_i, at once.
    P is made by whoever trains (`learner/packed.py`) and not watched: until backward it must stay as it is.
    Hu et al. 2021, LoRA, arXiv 2106.09685, eq. 3.
    Shapes: x [..., in], P [sum of out, in + sum of ranks], c [sum of out] or None; of each i in turn A [rank, in], B [out, rank]
    -> [..., sum of out].
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, packed: Tensor, bias: Tensor | None, scale: float, *factors: Tensor
    ) -> Tensor:
        result, narrow = _forwards(x, packed, bias, factors)
        ctx.save_for_backward(x, narrow, *factors)
        ctx.packed, ctx.scale = packed, scale
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        x, narrow, *factors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0]
        grad_x, of_factors = _backwards(grads[0], x, narrow, ctx.packed, ctx.scale, factors, wanted)
        return grad_x, None, None, None, *of_factors


class LowRankMlp(torch.autograd.Function):
    """(silu(a) b) through the last of three linears, with a and b of the first two: `LowRankLinears` twice, between them `Gate`.

    Of the widest activations of a layer a and b are kept; their product is made again. packed, biases: of the first two
    linears, and of the last. [..., in] -> [..., in].
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        packed: tuple[Tensor, Tensor],
        biases: tuple[Tensor | None, Tensor | None],
        scale: float,
        *factors: Tensor,
    ) -> Tensor:
        both, first = _forwards(x, packed[0], biases[0], factors[:4])
        result, last = _forwards(passes(both).gate(both), packed[1], biases[1], factors[4:])
        ctx.save_for_backward(x, both, first, last, *factors)
        ctx.packed, ctx.scale = packed, scale
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        x, both, first, last, *factors = ctx.saved_tensors
        way = passes(both)
        grad, of_last = _backwards(grads[0], way.gate(both), last, ctx.packed[1], ctx.scale, factors[4:])
        bent = way.gate_back(both, grad)
        grad_x, of_first = _backwards(bent, x, first, ctx.packed[0], ctx.scale, factors[:4])
        return grad_x, None, None, None, *of_first, *of_last


class AddNorm(torch.autograd.Function):
    """x + m, if there is an m, and of that w x / sqrt(mean(x^2) + eps), with w frozen and nowhere 0, in w's precision; keeps the latter,
    which the product after it keeps as well, and one number a position. [..., hidden] -> twice [..., hidden].

    Zhang and Sennrich 2019, arXiv 1910.07467, eq. 4. With r = 1 / sqrt(mean(x^2) + eps), n the width and y what it gives, the
    gradient is r (g w - (y / w) (g . y) / n).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, more: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        states, normed, ctx.factor = passes(weight).add_norm(x, more, weight, eps)
        ctx.more = None if more is None else more.dtype
        ctx.save_for_backward(normed, weight)
        return states, normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        normed, weight = ctx.saved_tensors
        return *passes(weight).norm_back(*grads, normed, weight, ctx.factor, ctx.more), None, None


class Gate(torch.autograd.Function):
    """silu(a) b, of which a and b alone are kept. [..., a and b] -> [...]. Shazeer 2020, arXiv 2002.05202, eq. 5 (SwiGLU)."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        result: Tensor = passes(both).gate(both)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Tensor:
        (both,) = ctx.saved_tensors
        result: Tensor = passes(both).gate_back(both, grads[0])
        return result


def _forwards(x: Tensor, packed: Tensor, bias: Tensor | None, factors: Factors) -> tuple[Tensor, Tensor]:
    """What the linears make of x, side by side, and x A^T [positions, sum of ranks]."""
    flat = x.reshape(-1, x.shape[-1])
    narrow = linear(flat, torch.cat([*factors[::2]]))
    return linear(torch.cat([flat, narrow], 1), packed, bias).view(*x.shape[:-1], -1), narrow


def _backwards(
    grad: Tensor,
    x: Tensor,
    narrow: Tensor,
    packed: Tensor,
    scale: float,
    factors: Factors,
    wanted: bool = True,
) -> tuple[Any, list[Tensor]]:
    """The gradient on x, if it is wanted, and on each factor."""
    downs, ups = factors[::2], factors[1::2]
    flat, given = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    rank, width = len(downs[0]), flat.shape[1]
    pulled = given @ (packed if wanted else packed[:, width:])
    grad_x, bent = pulled[:, : pulled.shape[1] - narrow.shape[1]], pulled[:, -narrow.shape[1] :]
    of_downs = (bent.t() @ flat).split(rank)
    each = zip(narrow.split(rank, 1), given.split([len(up) for up in ups], 1), strict=True)
    of_ups = [(part.t() @ g * scale).t() for part, g in each]
    if wanted:
        grad_x = grad_x.addmm_(bent, torch.cat([*downs])).view(x.shape)
    return grad_x if wanted else None, [grad for pair in zip(of_downs, of_ups, strict=True) for grad in pair]

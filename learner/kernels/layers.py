"""A layer's linears, norm and gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from learner.kernels.passes import passes

Matrices = tuple[Tensor, Tensor]
"""P of `LowRankLinears`, and every A of its input one above the other."""


class LowRankLinears(torch.autograd.Function):
    """x W_i^T + c_i + s (x A_i^T) B_i^T for several i of one x, with W and c frozen: one product of [x | x A^T] and P^T, where P
    has the W_i one above the other and beside them s B_i, each in the columns of its own A_i.

    PEFT passes three more times over every activation. In bfloat16 one product, rounded once, keeps a small update: merged into W, or
    added to what has been rounded, most of it would be lost. Backwards the same P gives g_i W_i summed up, and s g_i B_i, at once.
    Both matrices are made by whoever trains (`learner/packed.py`), in the precision of x, and not watched: until backward they must stay as they are.
    What A and B get is their gradient. Hu et al. 2021, LoRA, arXiv 2106.09685, eq. 3.
    Shapes: x [..., in], P [sum of out, in + sum of ranks], all A [sum of ranks, in], c [sum of out] or None; of each i in turn A [rank, in],
    B [out, rank] -> [..., sum of out].
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, matrices: Matrices, bias: Tensor | None, scale: float, *factors: Tensor
    ) -> Tensor:
        result, narrow = _forwards(x, matrices, bias)
        ctx.save_for_backward(x, narrow)
        ctx.matrices, ctx.scale, ctx.sizes = matrices, scale, _sizes(factors)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        x, narrow = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0]
        grad_x, of_factors = _backwards(grads[0], x, narrow, ctx.matrices, ctx.scale, ctx.sizes, wanted)
        return grad_x, None, None, None, *of_factors


class LowRankMlp(torch.autograd.Function):
    """(silu(a) b) through the last of three linears, with a and b of the first two: `LowRankLinears` twice, between them `Gate`.

    Of the widest activations of a layer a and b are kept; their product is made again. matrices, biases: of the first two
    linears, and of the last. [..., in] -> [..., in].
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        matrices: tuple[Matrices, Matrices],
        biases: tuple[Tensor | None, Tensor | None],
        scale: float,
        *factors: Tensor,
    ) -> Tensor:
        both, first = _forwards(x, matrices[0], biases[0])
        opened = passes(both).gate(both, more=len(matrices[1][1]))
        result, last = _forwards_within(opened, matrices[1], biases[1])
        ctx.save_for_backward(x, both, first, last)
        ctx.matrices, ctx.scale, ctx.sizes = matrices, scale, _sizes(factors)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        x, both, first, last = ctx.saved_tensors
        way, scale, sizes = passes(both), ctx.scale, ctx.sizes
        grad, of_last = _backwards(grads[0], way.gate(both), last, ctx.matrices[1], scale, sizes[2:])
        bent = way.gate_back(both, grad)
        grad_x, of_first = _backwards(bent, x, first, ctx.matrices[0], scale, sizes[:2])
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


def _sizes(factors: Sequence[Tensor]) -> list[int]:
    """What each linear gives, of its A and B in turn."""
    return [len(up) for up in factors[1::2]]


def _forwards(x: Tensor, matrices: Matrices, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """What the linears make of x, side by side, and x A^T [positions, sum of ranks]."""
    packed, downs = matrices
    flat = x.reshape(-1, x.shape[-1])
    narrow = linear(flat, downs)
    return linear(torch.cat([flat, narrow], 1), packed, bias).view(*x.shape[:-1], -1), narrow


def _forwards_within(roomy: Tensor, matrices: Matrices, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same of x with room behind it for x A^T."""
    packed, downs = matrices
    flat, rank = roomy.view(-1, roomy.shape[-1]), len(downs)
    narrow = linear(flat[:, :-rank], downs)
    flat[:, -rank:] = narrow
    return linear(flat, packed, bias).view(*roomy.shape[:-1], -1), narrow


def _backwards(
    grad: Tensor,
    x: Tensor,
    narrow: Tensor,
    matrices: Matrices,
    scale: float,
    sizes: Sequence[int],
    wanted: bool = True,
) -> tuple[Any, list[Tensor]]:
    """The gradient on x, if it is wanted, and on each A and B in turn. sizes: what each linear gives."""
    packed, downs = matrices
    flat, given = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    rank, width = len(downs) // len(sizes), flat.shape[1]
    pulled = given @ (packed if wanted else packed[:, width:])
    grad_x, bent = pulled[:, : pulled.shape[1] - len(downs)], pulled[:, -len(downs) :]
    of_downs = (bent.t() @ flat).split(rank)
    each = zip(narrow.split(rank, 1), given.split(list(sizes), 1), strict=True)
    of_ups = [(part.t() @ g * scale).t() for part, g in each]
    if wanted:
        grad_x = grad_x.addmm_(bent, downs).view(x.shape)
    return grad_x if wanted else None, [grad for pair in zip(of_downs, of_ups, strict=True) for grad in pair]

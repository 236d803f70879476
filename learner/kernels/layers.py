"""A layer's linears, norm and gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, silu

from learner.kernels.wide import wide


class LowRankLinears(torch.autograd.Function):
    """x W_i^T + c_i + s (x A_i^T) B_i^T for several i of one x, with W and c frozen.

    The low-rank part lies there first and the wide product is added up on it; PEFT passes three more times over every activation.
    In bfloat16 that keeps a small update: merged into W, or added to what has been rounded, most of it would be lost. The
    gradient on x is sum_i g_i W_i + s g_i B_i A_i, added up in place. Hu et al. 2021, LoRA, arXiv 2106.09685, eq. 3.
    Shapes: x [..., in]; of each i in turn W [out, in], c [out] or None, A [rank, in], B [out, rank] -> [..., out] each.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, *factors: Tensor | None) -> tuple[Tensor, ...]:
        results, narrow = _forwards(x, scale, factors)
        ctx.save_for_backward(x, narrow, *factors)
        ctx.scale = scale
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        x, narrow, *factors = ctx.saved_tensors
        grad_x, of_factors = _backwards(grads, x, narrow, ctx.scale, factors, ctx.needs_input_grad[0])
        return grad_x, None, *of_factors


class LowRankGated(torch.autograd.Function):
    """`LowRankLinears` of `Gate`, of which a and b are kept and not the widest activation of a layer, which is made again."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: float, *factors: Tensor | None) -> Tensor:
        (result,), narrow = _forwards(silu(a).mul_(b), scale, factors)
        ctx.save_for_backward(a, b, narrow, *factors)
        ctx.scale = scale
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        a, b, narrow, *factors = ctx.saved_tensors
        opened = silu(a)
        grad, of_factors = _backwards(grads, opened * b, narrow, ctx.scale, factors)
        of_b = opened.mul_(grad)
        return torch.ops.aten.silu_backward(grad.mul_(b), a), of_b, None, *of_factors


class RmsNorm(torch.autograd.Function):
    """w x / sqrt(mean(x^2) + eps) with w frozen and nowhere 0, in w's precision; keeps what it gives, which the layer after it keeps
    as well, and one number a position. [..., hidden] -> [..., hidden].

    Zhang and Sennrich 2019, arXiv 1910.07467, eq. 4. With r = 1 / sqrt(mean(x^2) + eps), n the width and y what it gives, the
    gradient is r (g w - (y / w) (g . y) / n).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(wide(x), dim=-1, keepdim=True)
        ctx.factor = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.dtype = x.dtype
        result = (x * ctx.factor).mul_(wide(weight)).to(weight.dtype)
        ctx.save_for_backward(result, weight)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        result, weight = ctx.saved_tensors
        weight = wide(weight)
        grad, unit = (part.to(weight.dtype, copy=True) for part in (grads[0], result))
        pull = torch.linalg.vecdot(grad.mul_(weight), unit.div_(weight))[..., None]
        pull = pull.mul_(ctx.factor).div_(-len(weight))
        return grad.mul_(ctx.factor).addcmul_(unit, pull).to(ctx.dtype), None, None


class Gate(torch.autograd.Function):
    """silu(a) b, of which a and b alone are kept. [...] each -> [...]. Shazeer 2020, arXiv 2002.05202, eq. 5 (SwiGLU)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return silu(a).mul_(b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grads[0] * b, a), silu(a).mul_(grads[0])


Factors = Sequence[Tensor | None]


def _forwards(x: Tensor, scale: float, factors: Factors) -> tuple[tuple[Tensor, ...], Tensor]:
    """What each i makes of x, and x A^T of all of them side by side."""
    weights, biases, downs, ups = _by_kind(factors)
    flat = x.reshape(-1, x.shape[-1])
    narrow = linear(flat, torch.cat(downs))
    each = zip(weights, biases, ups, narrow.split(len(downs[0]), 1), strict=True)
    results = [linear(part, b * scale, c).addmm_(flat, w.t()) for w, c, b, part in each]
    return tuple(part.view(*x.shape[:-1], -1) for part in results), narrow


def _backwards(
    grads: Sequence[Tensor], x: Tensor, narrow: Tensor, scale: float, factors: Factors, wanted: bool = True
) -> tuple[Any, list[Tensor | None]]:
    """The gradient on x, if it is wanted, and on each factor."""
    weights, _, downs, ups = _by_kind(factors)
    rank, flat = len(downs[0]), x.reshape(-1, x.shape[-1])
    given = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
    bent = torch.cat([grad @ up for grad, up in zip(given, ups, strict=True)], 1)
    grad_x = None
    if wanted:
        grad_x = torch.mm(given[0], weights[0])
        for grad, weight in zip(given[1:], weights[1:], strict=True):
            grad_x.addmm_(grad, weight)
        grad_x = grad_x.addmm_(bent, torch.cat(downs), alpha=scale).view(x.shape)
    of_downs = (bent.t() @ flat * scale).split(rank)
    of_ups = [(part.t() @ g * scale).t() for g, part in zip(given, narrow.split(rank, 1), strict=True)]
    each = zip(of_downs, of_ups, strict=True)
    return grad_x, [grad for a, b in each for grad in (None, None, a, b)]


def _by_kind(factors: Factors) -> tuple[Any, ...]:
    return tuple(factors[kind::4] for kind in range(4))

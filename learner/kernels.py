"""Autograd functions that know the base is frozen, so they do, and keep, far less.

Measured in docs/experiments.md ("The learner's core").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

PerToken = Float[Tensor, "tokens"]
TokenIndex = Int[Tensor, "tokens"]

CHUNK = 256
"""Tokens whose logits exist at once: 50 MB at a vocabulary of 49,152 in float32."""


class TokenLogprobs(torch.autograd.Function):
    """log softmax(h W^T)[y] in nats, keeping one vector a token instead of one logit a word.

    The gradient on h is known as soon as the logits are: (W[y] - sum_v p_v W_v) times the incoming scalar.
    It is computed with the logits, a chunk of tokens at a time, so nothing of vocabulary width outlives its
    chunk and backward multiplies instead of computing the logits again. W is frozen: it gets no gradient.
    Shapes: h [tokens, hidden], W [vocabulary, hidden], y [tokens] -> [tokens].
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "tokens hidden"],
        weight: Float[Tensor, "vocabulary hidden"],
        targets: TokenIndex,
    ) -> PerToken:
        wanted = ctx.needs_input_grad[0]
        logprobs = _wide(hidden.new_empty(len(hidden)))
        slopes = torch.empty_like(hidden) if wanted else None
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            logits = _wide(linear(hidden[part], weight))
            total = logits.logsumexp(-1)
            logprobs[part] = logits.gather(1, targets[part, None])[:, 0] - total
            if slopes is not None:
                probabilities = logits.sub_(total[:, None]).exp_()
                slopes[part] = weight[targets[part]] - probabilities.to(weight.dtype) @ weight
        if slopes is not None:
            ctx.save_for_backward(slopes)
        return logprobs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return grads[0][:, None].to(slopes.dtype) * slopes, None, None


class LowRankLinears(torch.autograd.Function):
    """x (W_i + s B_i A_i)^T + c_i for several i of one x, with W and c frozen.

    Forward merges the update first, so that wide activations are written once; PEFT adds s * (x A^T) B^T to the output,
    which passes three more times over every activation. Backward keeps no merged weights: the gradient on x is
    sum_i g_i W_i + s g_i B_i A_i, added up in place. Hu et al. 2021, LoRA, arXiv 2106.09685, eq. 3.
    keep: whether there will be a backward. Shapes: x [..., in]; of each i in turn W [out, in], c [out] or None, A [rank, in], B [out, rank] -> [..., out] each.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, keep: bool, *factors: Tensor | None) -> tuple[Tensor, ...]:
        weights, biases, downs, ups = _by_kind(factors)
        down = torch.cat(downs)
        narrow = linear(x.reshape(-1, x.shape[-1]), down) if keep else None
        ctx.save_for_backward(x, down, narrow, *weights, *ups)
        ctx.scale = scale
        each = zip(weights, biases, downs, ups, strict=True)
        return tuple(linear(x, torch.addmm(w, b, a, alpha=scale), bias) for w, bias, a, b in each)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        x, down, narrow, *both = ctx.saved_tensors
        weights, ups, rank = both[: len(grads)], both[len(grads) :], len(down) // len(grads)
        wide = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        bent = torch.cat([grad @ up for grad, up in zip(wide, ups, strict=True)], 1)
        grad_x = None
        if ctx.needs_input_grad[0]:
            flat = torch.mm(wide[0], weights[0])
            for grad, weight in zip(wide[1:], weights[1:], strict=True):
                flat.addmm_(grad, weight)
            grad_x = flat.addmm_(bent, down, alpha=ctx.scale).view(x.shape)
        of_downs = (bent.t() @ x.reshape(-1, x.shape[-1]) * ctx.scale).split(rank)
        of_ups = [g.t() @ part * ctx.scale for g, part in zip(wide, narrow.split(rank, 1), strict=True)]
        of_factors = [(None, None, a, b) for a, b in zip(of_downs, of_ups, strict=True)]
        return grad_x, None, None, *(grad for part in of_factors for grad in part)


class RmsNorm(torch.autograd.Function):
    """w x / sqrt(mean(x^2) + eps) with w frozen; keeps x and one number a position. [..., hidden] -> [..., hidden].

    Zhang and Sennrich 2019, arXiv 1910.07467, eq. 4. With r = 1 / sqrt(mean(x^2) + eps) and n the width, the gradient is
    r (g w) - x r^3 (g w . x) / n.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = _wide(x)
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        ctx.factor = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight)
        return (wide * ctx.factor).to(x.dtype).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        x, weight = ctx.saved_tensors
        wide, grad = _wide(x), _wide(grads[0] * weight)
        pull = (grad * wide).sum(-1, keepdim=True) * ctx.factor**3 / x.shape[-1]
        return grad.mul_(ctx.factor).addcmul_(wide, pull, value=-1).to(x.dtype), None, None


class Rotate(torch.autograd.Function):
    """Rotary positions: pair (x_j, x_{j + dim/2}) turned by the position's angle, and rows made apart for attention.

    [positions, heads, dim] -> of each row [heads, seq, dim]; cos and sin [positions, dim/2]; lengths: of the rows.
    Su et al. 2021, RoFormer, arXiv 2104.09864, eq. 34, in the order of halves that Llama's weights have.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, lengths: Sequence[int]) -> tuple[Tensor, ...]:
        ctx.save_for_backward(cos, sin)
        ctx.lengths = lengths
        rows = tuple(x.new_empty(x.shape[1], seq, x.shape[2]) for seq in lengths)
        _turn(x.split(lengths), cos.split(lengths), sin.split(lengths), [row.transpose(0, 1) for row in rows])
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        heads, _, dim = grads[0].shape
        out = grads[0].new_empty(len(cos), heads, dim)
        rows = [grad.transpose(0, 1) for grad in grads]
        _turn(rows, cos.split(ctx.lengths), (-sin).split(ctx.lengths), out.split(ctx.lengths))
        return out, None, None, None


def _turn(xs: Sequence[Tensor], cos: Sequence[Tensor], sin: Sequence[Tensor], outs: Sequence[Tensor]) -> None:
    """[seq, heads, dim] each."""
    for x, c, s, out in zip(xs, cos, sin, outs, strict=True):
        (first, second), (to_first, to_second) = x.chunk(2, -1), out.chunk(2, -1)
        torch.mul(first, c[:, None], out=to_first).addcmul_(second, s[:, None], value=-1)
        torch.mul(second, c[:, None], out=to_second).addcmul_(first, s[:, None])


def _by_kind(factors: Sequence[Tensor | None]) -> tuple[Any, ...]:
    return tuple(factors[kind::4] for kind in range(4))


def _wide(x: Tensor) -> Tensor:
    """At least float32: a sum over a vocabulary is lost in 8 bits of mantissa."""
    return x.to(torch.promote_types(x.dtype, torch.float32))

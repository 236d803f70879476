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
from torch.nn.functional import linear, scaled_dot_product_attention

PerToken = Float[Tensor, "tokens"]
TokenIndex = Int[Tensor, "tokens"]

CHUNK = 160
"""Tokens whose logits exist at once: 31 MB at a vocabulary of 49,152 in float32, and as much again in bfloat16 beside them. Above 32 MiB
glibc gives memory back to the kernel each time, and clearing it anew costs as much as the products."""


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
            logits, likeliest = _logits(hidden[part], weight, targets[part])
            ours, high = (logits.gather(1, words[:, None]) for words in (targets[part], likeliest))
            probabilities = torch.softmax(logits, -1, out=logits)
            logprobs[part] = (ours - high + probabilities.gather(1, likeliest[:, None]).log())[:, 0]
            if slopes is not None:
                probabilities.scatter_add_(1, targets[part, None], -torch.ones_like(ours))
                slopes[part] = (probabilities.to(weight.dtype) @ weight).neg_()
        if slopes is not None:
            ctx.save_for_backward(slopes)
        return logprobs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return grads[0][:, None].to(slopes.dtype) * slopes, None, None


class LowRankLinears(torch.autograd.Function):
    """x W_i^T + c_i + s (x A_i^T) B_i^T for several i of one x, with W and c frozen.

    The low-rank part lies there first and the wide product is added up on it; PEFT passes three more times over every activation.
    In bfloat16 that keeps a small update: merged into W, or added to what has been rounded, most of it would be lost. The
    gradient on x is sum_i g_i W_i + s g_i B_i A_i, added up in place. Hu et al. 2021, LoRA, arXiv 2106.09685, eq. 3.
    Shapes: x [..., in]; of each i in turn W [out, in], c [out] or None, A [rank, in], B [out, rank] -> [..., out] each.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, *factors: Tensor | None) -> tuple[Tensor, ...]:
        weights, biases, downs, ups = _by_kind(factors)
        down, flat = torch.cat(downs), x.reshape(-1, x.shape[-1])
        narrow = linear(flat, down)
        ctx.save_for_backward(x, down, narrow, *weights, *ups)
        ctx.scale = scale
        each = zip(weights, biases, ups, narrow.split(len(downs[0]), 1), strict=True)
        wide = [linear(part, b * scale, c).addmm_(flat, w.t()) for w, c, b, part in each]
        return tuple(part.view(*x.shape[:-1], -1) for part in wide)

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
        return grad_x, None, *(grad for part in of_factors for grad in part)


class RmsNorm(torch.autograd.Function):
    """w x / sqrt(mean(x^2) + eps) with w frozen, in w's precision; keeps x and one number a position. [..., hidden] -> [..., hidden].

    Zhang and Sennrich 2019, arXiv 1910.07467, eq. 4. With r = 1 / sqrt(mean(x^2) + eps) and n the width, the gradient is
    r (g w) - x r^3 (g w . x) / n.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = _wide(x)
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        ctx.factor = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight)
        return (wide * ctx.factor).mul_(_wide(weight)).to(weight.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        x, weight = ctx.saved_tensors
        wide, grad = _wide(x), _wide(grads[0]) * _wide(weight)
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


class Attend(torch.autograd.Function):
    """softmax(s q k^T + m) v of one row, where query heads share key heads.

    Forward is torch's own. Backward makes the softmax again, by plain products: torch's own takes twice as long on a CPU, in
    bfloat16 six times. With p the softmax, o the result and g its gradient: dv = p^T g, ds = s p (g v^T - g . o), dq = ds k,
    dk = ds^T q (Dao et al. 2022, arXiv 2205.14135, algorithm 4).
    Shapes: q [heads, seq, dim], k and v [key heads, seq, dim], m [seq, seq] -> [heads, seq, dim].
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
        k, v = (part.repeat_interleave(len(query) // len(key), 0)[None] for part in (key, value))
        seen = scaled_dot_product_attention(query[None], k, v, mask[None, None], scale=scale)[0]
        ctx.save_for_backward(query, key, value, mask, seen)
        ctx.scale = scale
        return seen

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        query, key, value, mask, seen = ctx.saved_tensors
        count, seq, dim = key.shape
        q, g, o = (part.reshape(count, -1, dim) for part in (query, grads[0], seen))
        scores = torch.bmm(_wide(q), _wide(key).transpose(1, 2)).view(-1, seq, seq).mul_(ctx.scale).add_(mask)
        p = torch.softmax(scores, -1, out=scores).view(count, -1, seq)
        of_value = torch.bmm(p.to(g.dtype).transpose(1, 2), g)
        pull = (_wide(g) * _wide(o)).sum(-1, keepdim=True)
        slopes = _wide(torch.bmm(g, value.transpose(1, 2))).sub_(pull).mul_(p).mul_(ctx.scale).to(q.dtype)
        of_query = torch.bmm(slopes, key).view(query.shape)
        return of_query, torch.bmm(slopes.transpose(1, 2), q), of_value, None, None


def _turn(xs: Sequence[Tensor], cos: Sequence[Tensor], sin: Sequence[Tensor], outs: Sequence[Tensor]) -> None:
    """[seq, heads, dim] each."""
    for x, c, s, out in zip(xs, cos, sin, outs, strict=True):
        (first, second), (to_first, to_second) = x.chunk(2, -1), out.chunk(2, -1)
        torch.mul(first, c[:, None], out=to_first).addcmul_(second, s[:, None], value=-1)
        torch.mul(second, c[:, None], out=to_second).addcmul_(first, s[:, None])


def _by_kind(factors: Sequence[Tensor | None]) -> tuple[Any, ...]:
    return tuple(factors[kind::4] for kind in range(4))


def _logits(
    hidden: Tensor, weight: Tensor, targets: TokenIndex
) -> tuple[Float[Tensor, "tokens vocabulary"], TokenIndex]:
    """h W^T at least in float32, and the likeliest word. A product of bfloat16 ends with 8 bits, a twentieth of a nat of a likely
    word: the two words that log-probabilities depend on most are multiplied again in float32."""
    logits = linear(hidden, weight)
    wide = _wide(logits)
    likeliest = wide.max(-1).indices
    if wide.dtype != logits.dtype:
        for words in (targets, likeliest):
            again = (_wide(hidden) * _wide(weight[words])).sum(-1, keepdim=True)
            wide.scatter_(1, words[:, None], again)
    return wide, likeliest


def _wide(x: Tensor) -> Tensor:
    """At least float32: a sum over a vocabulary is lost in 8 bits of mantissa."""
    return x.to(torch.promote_types(x.dtype, torch.float32))

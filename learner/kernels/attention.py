"""Attention of the rows of a batch, each within itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

from learner.kernels.wide import wide


class Attend(torch.autograd.Function):
    """softmax(s q k^T + m) v of every row, where query heads share key heads, and q and k are turned by their positions first.

    Rotary positions: pair (x_j, x_{j + dim/2}) turned by the position's angle (Su et al. 2021, RoFormer, arXiv 2104.09864, eq. 34, in
    the order of halves that Llama's weights have). The softmax forwards is torch's own. Backwards it is made again, by plain
    products: torch's own takes twice as long on a CPU, in bfloat16 six times. With p the softmax, o the result and g its gradient:
    dv = p^T g, ds = p (g v^T - g . o), dq = s ds k, dk = s ds^T q (Dao et al. 2022, arXiv 2205.14135, algorithm 4).
    Shapes: q [positions, heads, dim], k and v [positions, key heads, dim], rotary: cosine and sine [positions, dim/2], m of each row
    [seq, seq] -> [positions, heads, dim].
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rotary: tuple[Tensor, Tensor],
        scale: float,
        masks: Sequence[Tensor],
    ) -> Tensor:
        lengths = [len(mask) for mask in masks]
        queries, keys = (_turned(part, rotary, lengths) for part in (query, key))
        result = torch.empty_like(query)
        rows = zip(queries, keys, value.split(lengths), masks, result.split(lengths), strict=True)
        for q, k, v, mask, to in rows:
            to.copy_(_seen(q, k, v.transpose(0, 1), mask, scale).transpose(0, 1))
        ctx.save_for_backward(value, result, *queries, *keys)
        ctx.rotary, ctx.scale, ctx.masks = rotary, scale, masks
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        value, result, *turned = ctx.saved_tensors
        (cos, sin), lengths = ctx.rotary, [len(mask) for mask in ctx.masks]
        wanted = tuple(torch.empty_like(part) for part in (result, value, value))
        both = _less_pull(value, grads[0], result)
        given = zip(*(part.split(lengths) for part in (*both, cos, -sin)), strict=True)
        into = zip(*(part.split(lengths) for part in wanted), strict=True)
        rows = zip(ctx.masks, turned[: len(lengths)], turned[len(lengths) :], given, into, strict=True)
        for mask, q, k, (v, g, c, s), (to_q, to_k, to_v) in rows:
            dq, dk, dv = _slopes(q, k, v, g, mask, ctx.scale)
            _turn(dq.transpose(0, 1), c, s, to_q)
            _turn(dk.transpose(0, 1), c, s, to_k)
            to_v.copy_(dv.transpose(0, 1))
        return *wanted, None, None, None


def _seen(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """[heads, seq, dim] each."""
    k, v = (part.repeat_interleave(len(q) // len(k), 0)[None] for part in (k, v))
    return scaled_dot_product_attention(q[None], k, v, mask[None, None], scale=scale)[0]


def _less_pull(value: Tensor, grad: Tensor, result: Tensor) -> tuple[Tensor, Tensor]:
    """v and g with two columns more, so that g v^T is less g . o: ones, and what is taken off, in two parts so that little of it is
    rounded away."""
    pull = (wide(grad) * wide(result)).sum(-1, keepdim=True)
    most = pull.to(grad.dtype)
    v = torch.cat([value, torch.ones_like(value[..., :2])], -1)
    return v, torch.cat([grad, -most, (most - pull).to(grad.dtype)], -1)


def _slopes(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, mask: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dv of one row, as q [heads, seq, dim] and k are; v and g of `_less_pull`, [seq, heads, dim + 2]."""
    count, seq, dim = k.shape
    g, queries = g.transpose(0, 1).reshape(count, -1, dim + 2), q.view(count, -1, dim)
    scores = torch.bmm(wide(queries) * scale, wide(k).transpose(1, 2)).view(-1, seq, seq).add_(wide(mask))
    p = torch.softmax(scores, -1, out=scores).view(count, -1, seq).to(q.dtype)
    slopes = torch.bmm(g, v.permute(1, 2, 0)).mul_(p)
    dq, dk = torch.bmm(slopes, k).mul_(scale), torch.bmm(slopes.transpose(1, 2), queries).mul_(scale)
    return dq.view(q.shape), dk, torch.bmm(p.transpose(1, 2), g[..., :dim])


def _turned(x: Tensor, rotary: tuple[Tensor, Tensor], lengths: Sequence[int]) -> list[Tensor]:
    """Of each row [heads, seq, dim]."""
    cos, sin = rotary
    rows = [x.new_empty(x.shape[1], seq, x.shape[2]) for seq in lengths]
    for part, c, s, row in zip(x.split(lengths), cos.split(lengths), sin.split(lengths), rows, strict=True):
        _turn(part, c, s, row.transpose(0, 1))
    return rows


def _turn(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """[seq, heads, dim]."""
    (first, second), (to_first, to_second) = x.chunk(2, -1), out.chunk(2, -1)
    torch.mul(first, cos[:, None], out=to_first).addcmul_(second, sin[:, None], value=-1)
    torch.mul(second, cos[:, None], out=to_second).addcmul_(first, sin[:, None])

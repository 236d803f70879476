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
    A row whose m is wider than it is long sees the first row's positions before its own.
    Shapes: q [positions, heads, dim], k and v [positions, key heads, dim], rotary: cosine and sine [positions, dim/2], m of each row
    [seq, seen] -> [positions, heads, dim].
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
        value = value.contiguous()  # not a part of what q and k came with, which nobody needs later
        result = value.new_empty(query.shape)
        values = value.transpose(0, 1).split(lengths, 1)
        rows = zip(queries, keys, values, masks, result.split(lengths), strict=True)
        for q, k, v, mask, to in rows:
            k, v = _behind(keys[0], k, mask), _behind(values[0], v, mask)
            to.copy_(_seen(q, k, v, mask, scale).transpose(0, 1))
        ctx.save_for_backward(value, result, *queries, *keys)
        ctx.rotary, ctx.scale, ctx.masks = rotary, scale, masks
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        value, result, *turned = ctx.saved_tensors
        (cos, sin), lengths = ctx.rotary, [len(mask) for mask in ctx.masks]
        wanted = tuple(torch.empty_like(part) for part in (result, value, value))
        with_ones, pulled = _less_pull(value, grads[0], result)
        keys, values = turned[len(lengths) :], with_ones.transpose(0, 1).split(lengths, 1)
        given = zip(*(part.split(lengths) for part in (pulled, cos, -sin, *wanted)), strict=True)
        rows = list(zip(ctx.masks, turned[: len(lengths)], keys, values, given, strict=True))
        of_first = list[tuple[Tensor, Tensor]]()
        for mask, q, k, v, (g, c, s, to_q, to_k, to_v) in reversed(rows):
            k, v = _behind(keys[0], k, mask), _behind(values[0], v, mask)
            dq, dk, dv = _slopes(q, k, v, g, mask, ctx.scale)
            if ahead := mask.shape[1] - len(mask):
                of_first.append((dk[:, :ahead], dv[:, :ahead]))
                dk, dv = dk[:, ahead:], dv[:, ahead:]
            elif of_first:
                dk, dv = (_sum(parts) for parts in zip((dk, dv), *of_first, strict=True))
            _turn(dq.transpose(0, 1), c, s, to_q)
            _turn(dk.transpose(0, 1), c, s, to_k)
            to_v.copy_(dv.transpose(0, 1))
        return *wanted, None, None, None


def _behind(first: Tensor, own: Tensor, mask: Tensor) -> Tensor:
    """What a row sees, [heads, seen, dim]: its own, and the first row's before it where the mask is wider than the row is long."""
    return torch.cat([first, own], 1) if mask.shape[1] > len(mask) else own


def _seen(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """[heads, seq, dim] each."""
    of = (q[None], k[None], v[None], mask[None, None])
    return scaled_dot_product_attention(*of, scale=scale, enable_gqa=True)[0]


def _sum(parts: tuple[Tensor, ...]) -> Tensor:
    return wide(torch.stack(parts)).sum(0).to(parts[0].dtype)


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
    """dq, dk, dv of one row, as q [heads, seq, dim] and k [key heads, seen, dim] are; v and g of `_less_pull`, [key heads, seen, dim + 2]
    and [seq, heads, dim + 2]."""
    count, seen, dim = k.shape
    g, queries = g.transpose(0, 1).reshape(count, -1, dim + 2), q.view(count, -1, dim)
    scores = torch.bmm(wide(queries) * scale, wide(k).transpose(1, 2)).view(-1, *mask.shape).add_(wide(mask))
    p = torch.softmax(scores, -1, out=scores).view(count, -1, seen).to(q.dtype)
    slopes = torch.bmm(g, v.transpose(1, 2)).mul_(p)
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

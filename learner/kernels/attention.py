"""Attention of the rows of a batch, each within itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from learner.kernels.passes import Heads, Layout, Rotary, passes


class Attend(torch.autograd.Function):
    """softmax(s q k^T + m) v of every row, where query heads share key heads, and q and k are turned by their positions first.

    Rotary positions: pair (x_j, x_{j + dim/2}) turned by the position's angle (Su et al. 2021, RoFormer, arXiv 2104.09864, eq. 34, in
    the order of halves that Llama's weights have). The softmax forwards is torch's own. Backwards it is made again, by plain
    products: torch's own takes twice as long on a CPU, in bfloat16 six times. With p the softmax, o the result and g its gradient:
    dv = p^T g, ds = p (g v^T - g . o), dq = s ds k, dk = s ds^T q (Dao et al. 2022, arXiv 2205.14135, algorithm 4).
    m is 0, or so low that it hides, and hides what comes later. A row whose m is wider than it is long sees the first row's positions before its own.
    Shapes: q, k and v side by side [positions, (heads + 2 key heads) dim], rotary: cosine and sine [positions, dim/2], m of each row
    [seq, seen] -> [positions, heads, dim].
    """

    @staticmethod
    def forward(
        ctx: Any, product: Tensor, rotary: Rotary, heads: Heads, scale: float, masks: Sequence[Tensor]
    ) -> Tensor:
        layout = Layout(heads, tuple((len(mask), mask.shape[1] - len(mask)) for mask in masks))
        way, result = passes(product), product.new_empty(len(product), heads.queries, heads.dim)
        into, totals = result.split([len(mask) for mask in masks]), list[Tensor]()
        parts = way.turned(product, rotary, layout)
        for (q, k, v), mask, to in zip(layout.each(parts), masks, into, strict=True):
            seen, total = way.attend(q, k, v[..., :-2], mask, scale)
            to.copy_(seen.transpose(0, 1))
            totals.append(total)
        ctx.save_for_backward(result, *parts, *totals)
        ctx.rotary, ctx.layout, ctx.scale, ctx.masks = rotary, layout, scale, masks
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        result, *saved = ctx.saved_tensors
        way, layout = passes(result), ctx.layout
        parts, totals = (saved[0], saved[1], saved[2]), saved[3:]
        wanted = layout.room(result)
        given = layout.rows(way.pulled(grads[0], result, layout), layout.heads.queries, seen=False)
        rows = zip(layout.each(parts), given, layout.each(wanted), ctx.masks, totals, strict=True)
        for (q, k, v), g, (dq, dk, dv), mask, total in rows:
            queries, g = q.view(len(k), -1, k.shape[2]), g.view(len(k), -1, v.shape[2])
            bent = torch.bmm(g, v.transpose(1, 2))
            p, bent = way.slopes(queries, k, bent, mask, ctx.scale, total)
            torch.bmm(bent, k, out=dq.view(queries.shape))
            torch.bmm(bent.transpose(1, 2), queries, out=dk)
            torch.bmm(p.transpose(1, 2), g[..., :-2], out=dv)
        return way.turned_back(wanted, ctx.rotary, layout), None, None, None, None

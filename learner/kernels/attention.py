"""Attention of the rows of a batch, each within itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from learner.kernels.passes import Heads, Layout, Parts, Rotary, passes


class Sight(NamedTuple):
    """Of a batch. rotary: cosine and sine of each position, [positions, dim/2]. masks: of each row m, [seq, seen]: 0, or so low that it
    hides, and it hides what comes later. A row whose m is wider than it is long sees the first row's positions before its own."""

    rotary: Rotary
    masks: Sequence[Tensor]

    def layout(self, heads: Heads) -> Layout:
        """Of its rows."""
        return Layout(heads, tuple((len(mask), mask.shape[1] - len(mask)) for mask in self.masks))


class Seen(NamedTuple):
    """What `Attention` keeps: queries, keys and values as it turned them, and of each row what `slopes` wants to know of it."""

    parts: Parts
    totals: list[Tensor]


@dataclass(frozen=True)
class Attention:
    """softmax(s q k^T + m) v of every row, where query heads share key heads, and q and k are turned by their positions first.

    Rotary positions: pair (x_j, x_{j + dim/2}) turned by the position's angle (Su et al. 2021, RoFormer, arXiv 2104.09864, eq. 34, in
    the order of halves that Llama's weights have). The softmax forwards is torch's own. Backwards it is made again, by plain
    products: torch's own takes twice as long on a CPU, in bfloat16 six times. With p the softmax, o the result and g its gradient:
    dv = p^T g, ds = p (g v^T - g . o), dq = s ds k, dk = s ds^T q (Dao et al. 2022, arXiv 2205.14135, algorithm 4).
    """

    heads: Heads
    scale: float

    def forwards(self, given: Tensor, sight: Sight, room: int = 0) -> tuple[Tensor, Seen]:
        """From q, k and v side by side, [positions, (heads + 2 key heads) dim], [positions, heads dim + room]."""
        layout, width = sight.layout(self.heads), self.heads.queries * self.heads.dim
        way, result, totals = passes(given), given.new_empty(len(given), width + room), list[Tensor]()
        into = result[:, :width].view(len(given), -1, self.heads.dim).split([len(m) for m in sight.masks])
        parts = way.turned(given, sight.rotary, layout)
        for (q, k, v), mask, to in zip(layout.each(parts), sight.masks, into, strict=True):
            seen, total = way.attend(q, k, v[..., :-2], mask, self.scale)
            to.copy_(seen.transpose(0, 1))
            totals.append(total)
        return result, Seen(parts, totals)

    def backwards(self, grad: Tensor, result: Tensor, kept: Seen, sight: Sight) -> Tensor:
        """The gradient on what was given, from that on the result, which is here without room."""
        layout, way = sight.layout(self.heads), passes(result)
        wanted = layout.room(kept.parts[0])
        given = layout.rows(way.pulled(grad, result, layout), self.heads.queries, seen=False)
        each = layout.each(kept.parts), given, layout.each(wanted), sight.masks, kept.totals
        for (q, k, v), g, (dq, dk, dv), mask, total in zip(*each, strict=True):
            queries, g = q.view(len(k), -1, k.shape[2]), g.view(len(k), -1, v.shape[2])
            bent = torch.bmm(g, v.transpose(1, 2))
            p, bent = way.slopes(queries, k, bent, mask, self.scale, total)
            torch.bmm(bent, k, out=dq.view(queries.shape))
            torch.bmm(bent.transpose(1, 2), queries, out=dk)
            torch.bmm(p.transpose(1, 2), g[..., :-2], out=dv)
        return way.turned_back(wanted, sight.rotary, layout)

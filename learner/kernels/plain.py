"""The passes over activations that forward and backward are made of between their products, in torch's own operations: any device, any
precision, and what `learner/kernels/compiled.py` has to agree with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention, silu

from learner.kernels.wide import wide

Rotary = tuple[Tensor, Tensor]
"""Cosine and sine of each position, [positions, dim/2]."""


class Heads(NamedTuple):
    """Of queries, of keys, and numbers in each."""

    queries: int
    keys: int
    dim: int


Parts = tuple[Tensor, Tensor, Tensor]
"""Of queries, of keys and of values."""


@dataclass(frozen=True)
class Layout:
    """Rows one behind the other, each [heads, seq, dim]. sizes: of each row its positions, and how many of the first row's it sees
    before them; a row's keys and values begin with these."""

    heads: Heads
    sizes: tuple[tuple[int, int], ...]

    def room(self, like: Tensor, more: int = 0) -> Parts:
        """For a number of everything, flat. more: numbers behind each value."""
        heads, dim = self.heads, self.heads.dim
        own, seen = sum(seq for seq, _ in self.sizes), sum(map(sum, self.sizes))
        counts = (heads.queries * own * dim, heads.keys * seen * dim, heads.keys * seen * (dim + more))
        return like.new_empty(counts[0]), like.new_empty(counts[1]), like.new_empty(counts[2])

    def rows(self, flat: Tensor, heads: int, seen: bool = True) -> list[Tensor]:
        """[heads, positions, numbers] of each row. seen: with what it sees before its own."""
        lengths = [seq + ahead if seen else seq for seq, ahead in self.sizes]
        width = len(flat) // sum(lengths)
        rows = flat.split([length * width for length in lengths])
        return [row.view(heads, length, -1) for row, length in zip(rows, lengths, strict=True)]

    def each(self, parts: Parts) -> list[Parts]:
        """Queries, keys and values of each row."""
        query, key, value = parts
        queries = self.rows(query, self.heads.queries, seen=False)
        rows = zip(queries, *(self.rows(part, self.heads.keys) for part in (key, value)), strict=True)
        return list(rows)


class Tally(NamedTuple):
    """Of the words so far, for each token: the highest logit, the likeliest word but the target, and the sum of exp(logit - highest)
    without the target."""

    high: Tensor
    likeliest: Tensor
    rest: Tensor


def add_norm(
    x: Tensor, more: Tensor | None, weight: Tensor, eps: float, room: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """x + more, of it w x / sqrt(mean(x^2) + eps) in w's precision with room for so many numbers behind it, and 1 / sqrt(mean(x^2) + eps).
    [positions, hidden], [positions, hidden + room], [positions]."""
    states = x if more is None else x + more.to(x.dtype)
    factor = wide(states).square().mean(-1).add_(eps).rsqrt_()
    return states, pad((states * factor[:, None]).mul_(wide(weight)).to(weight.dtype), (0, room)), factor


def norm_back(
    given: Tensor, grad: Tensor, normed: Tensor, weight: Tensor, factor: Tensor, more: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The gradient on the sum of `add_norm`, from those on the sum and on what was normed, here without room, and once more in the
    precision of `more`."""
    weight = wide(weight)
    slope, unit = grad.to(weight.dtype) * weight, normed.to(weight.dtype) / weight
    pull = torch.linalg.vecdot(slope, unit).mul_(factor).div_(-len(weight))
    wanted = slope.mul_(factor[:, None]).addcmul_(unit, pull[:, None]).add_(given).to(given.dtype)
    return wanted, wanted.to(more)


def gate(both: Tensor, room: int = 0) -> Tensor:
    """silu(a) b of [positions, a and b], with room for so many numbers behind it."""
    a, b = both.chunk(2, -1)
    return pad(silu(a).mul_(b), (0, room))


def gate_back(both: Tensor, grad: Tensor) -> Tensor:
    """The gradient on `gate`'s a and b."""
    a, b = both.chunk(2, -1)
    bent = torch.empty_like(both)
    to_a, to_b = bent.chunk(2, -1)
    torch.mul(silu(a), grad, out=to_b)
    torch.ops.aten.silu_backward.grad_input(grad * b, a, grad_input=to_a)
    return bent


def turned(product: Tensor, rotary: Rotary, layout: Layout) -> Parts:
    """Queries, keys and values, of [positions, all of their heads]; queries and keys turned by their positions. Behind each value two ones
    (see `pulled`)."""
    parts = layout.room(product, more=2)
    rows, lengths = layout.each(parts), [seq for seq, _ in layout.sizes]
    given = zip(*(part.split(lengths) for part in (product, *rotary)), strict=True)
    for (own, cos, sin), (q, k, v), (_, ahead) in zip(given, rows, layout.sizes, strict=True):
        query, key, value = _parted(own, layout.heads)
        for part, to in ((query, q), (key, k[:, ahead:])):
            _turn(part, cos, sin, to.transpose(0, 1))
        v[:, ahead:, :-2] = value.transpose(0, 1)
        v[:, ahead:, -2:] = 1
        if ahead:
            k[:, :ahead], v[:, :ahead] = rows[0][1], rows[0][2]
    return parts


def turned_back(parts: Parts, rotary: Rotary, layout: Layout) -> Tensor:
    """The gradient on `turned`'s product, from those on queries, keys and values, the latter without the ones."""
    heads, lengths, rows = layout.heads, [seq for seq, _ in layout.sizes], layout.each(parts)
    result = parts[0].new_empty(sum(lengths), (heads.queries + 2 * heads.keys) * heads.dim)
    for place in (1, 2):
        each = zip(rows[1:], layout.sizes[1:], strict=True)
        if seen := [row[place][:, :ahead] for row, (_, ahead) in each if ahead]:
            first = rows[0][place]
            first.copy_(wide(torch.stack([first, *seen])).sum(0))
    given = zip(*(part.split(lengths) for part in (result, *rotary)), strict=True)
    for (to, cos, sin), (dq, dk, dv), (_, ahead) in zip(given, rows, layout.sizes, strict=True):
        query, key, value = _parted(to, heads)
        _turn(dq.transpose(0, 1), cos, -sin, query)
        _turn(dk[:, ahead:].transpose(0, 1), cos, -sin, key)
        value.copy_(dv[:, ahead:].transpose(0, 1))
    return result


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """softmax(s q k^T + m) v of one row, [heads, seq, dim], and what `slopes` wants to know of it. m is 0 or hides; what comes later is hidden."""
    of = (q[None], k[None], v[None], mask[None, None])
    return scaled_dot_product_attention(*of, scale=scale, enable_gqa=True)[0], q.new_empty(0)


def pulled(grad: Tensor, result: Tensor, layout: Layout) -> Tensor:
    """g and less g . o, in two parts so that little of it is rounded away: times a value and its two ones it is g v - g . o. Of
    [positions, heads dim] for each row [heads, seq, dim + 2], flat."""
    grad, result = (part.unflatten(1, (-1, layout.heads.dim)) for part in (grad, result))
    pull = (wide(grad) * wide(result)).sum(-1, keepdim=True)
    most = pull.to(grad.dtype)
    given = torch.cat([grad, -most, (most - pull).to(grad.dtype)], -1)
    rows = given.split([seq for seq, _ in layout.sizes])
    return torch.cat([row.transpose(0, 1).flatten() for row in rows])


def slopes(
    q: Tensor, k: Tensor, bent: Tensor, mask: Tensor, scale: float, total: Tensor
) -> tuple[Tensor, Tensor]:
    """p = softmax(s q k^T + m) and s p (g v^T - g . o), of which `bent` is the last factor. q: [key heads, queries of each, dim], the
    rest [key heads, queries of each, seen]."""
    scores = torch.bmm(wide(q) * scale, wide(k).transpose(1, 2)).view(-1, *mask.shape).add_(wide(mask))
    p = torch.softmax(scores, -1, out=scores).view(bent.shape).to(q.dtype)
    return p, bent.mul_(p).mul_(scale)


def tally(logits: Tensor, targets: Tensor, so_far: Tally, start: int) -> tuple[Tensor, Tensor]:
    """Counts in the logits of the words from `start`. Returns by how much the sum so far shrank, and exp(logit - highest), 0 for the
    target."""
    high, likeliest, rest = so_far
    raised = _without(wide(logits), targets - start)
    top, at = raised.max(-1)
    likeliest.copy_(torch.where(top > high, at + start, likeliest))
    shrink = high.clone()
    torch.maximum(high, top, out=high)
    shrink = shrink.sub_(high).exp_()
    raised = raised.sub_(high[:, None]).exp_()
    rest.mul_(shrink).add_(raised.sum(-1))
    return shrink, raised.to(logits.dtype)


def _without(logits: Tensor, targets: Tensor) -> Tensor:
    """Minus infinity for each target that is among these words, in place."""
    at = targets.clamp(0, logits.shape[1] - 1)[:, None]
    there = torch.where(at[:, 0] == targets, -torch.inf, logits.gather(1, at)[:, 0])
    return logits.scatter_(1, at, there[:, None])


def _parted(product: Tensor, heads: Heads) -> list[Tensor]:
    """[seq, heads, dim] of queries, keys and values."""
    counts = (heads.queries, heads.keys, heads.keys)
    return [
        part.unflatten(-1, (-1, heads.dim)) for part in product.split([n * heads.dim for n in counts], -1)
    ]


def _turn(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """[seq, heads, dim]."""
    (first, second), (to_first, to_second) = x.chunk(2, -1), out.chunk(2, -1)
    torch.mul(first, cos[:, None], out=to_first).addcmul_(second, sin[:, None], value=-1)
    torch.mul(second, cos[:, None], out=to_second).addcmul_(first, sin[:, None])

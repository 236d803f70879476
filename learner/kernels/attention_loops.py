"""The loops of `learner/kernels/compiled.py` over attention's queries, keys and values."""

from __future__ import annotations

from typing import Any

import numpy as np

from learner.kernels.scalars import BLOCK, LOWEST, Array, exponential, f32, loop, put, widened

Two = tuple[Array, Array]
Parts = tuple[Array, Array, Array]
Layout = tuple[Array, int, int]
"""Of each row its positions and how many it sees before them, heads of queries and of keys."""


@loop
def turn(product: Array, rotary: Two, layout: Layout, parts: Parts) -> None:
    """product: [positions, all heads, 2, dim/2]. Into queries and keys, [of rows, heads and positions, 2, dim/2], and values, [.., dim + 2]."""
    (sizes, heads, key_heads), (query, key, value), half = layout, parts, product.shape[3]
    start, to_query, to_key = 0, 0, 0
    for r in range(len(sizes)):
        seq, ahead = sizes[r]
        for h in range(heads):
            for p in range(start, start + seq):
                _turn(product, p, h, rotary, query, to_query)
                to_query += 1
        for h in range(key_heads):
            for a in range(ahead):
                of = h * sizes[0, 0] + a
                for j in range(half):
                    key[to_key, 0, j], key[to_key, 1, j] = key[of, 0, j], key[of, 1, j]
                for j in range(value.shape[1]):
                    value[to_key, j] = value[of, j]
                to_key += 1
            for p in range(start, start + seq):
                _turn(product, p, heads + h, rotary, key, to_key)
                of = heads + key_heads + h
                for j in range(half):
                    value[to_key, j] = product[p, of, 0, j]
                for j in range(half):
                    value[to_key, half + j] = product[p, of, 1, j]
                put(value, (to_key, 2 * half), f32(1.0))
                put(value, (to_key, 2 * half + 1), f32(1.0))
                to_key += 1
        start += seq


@loop
def _turn(product: Array, p: int, h: int, rotary: Two, to: Array, at: int) -> None:
    cos, sin = rotary
    for j in range(cos.shape[1]):
        a, b = widened(product[p, h, 0, j]), widened(product[p, h, 1, j])
        c, s = widened(cos[p, j]), widened(sin[p, j])
        put(to, (at, 0, j), a * c - b * s)
        put(to, (at, 1, j), b * c + a * s)


@loop
def add_seen(part: Array, sizes: Array, key_heads: int) -> None:
    """To the first row's, what other rows say of it, in place. part: [of rows, heads and positions, numbers]."""
    first, width = sizes[0, 0], part.shape[1]
    room = np.empty(width, np.float32)
    for h in range(key_heads):
        for p in range(first):
            for j in range(width):
                room[j] = widened(part[h * first + p, j])
            row = key_heads * first
            for r in range(1, len(sizes)):
                length, ahead = sizes[r, 0] + sizes[r, 1], sizes[r, 1]
                if p < ahead:
                    at = row + h * length + p
                    for j in range(width):
                        room[j] += widened(part[at, j])
                row += key_heads * length
            for j in range(width):
                put(part, (h * first + p, j), room[j])


@loop
def turn_back(parts: Parts, rotary: Two, layout: Layout, to: Array) -> None:
    """What `turn` made, without the ones, back to where it was taken from."""
    (sizes, heads, key_heads), (query, key, value), half = layout, parts, to.shape[3]
    start, of_query, of_key = 0, 0, 0
    for r in range(len(sizes)):
        seq, ahead = sizes[r]
        for h in range(heads):
            for p in range(start, start + seq):
                _turn_back(query, of_query, rotary, to, p, h)
                of_query += 1
        for h in range(key_heads):
            of_key += ahead
            for p in range(start, start + seq):
                _turn_back(key, of_key, rotary, to, p, heads + h)
                at = heads + key_heads + h
                for j in range(half):
                    to[p, at, 0, j] = value[of_key, j]
                for j in range(half):
                    to[p, at, 1, j] = value[of_key, half + j]
                of_key += 1
        start += seq


@loop
def _turn_back(slopes: Array, of: int, rotary: Two, to: Array, p: int, h: int) -> None:
    cos, sin = rotary
    for j in range(cos.shape[1]):
        a, b = widened(slopes[of, 0, j]), widened(slopes[of, 1, j])
        put(to, (p, h, 0, j), a * widened(cos[p, j]) + b * widened(sin[p, j]))
    for j in range(cos.shape[1]):
        a, b = widened(slopes[of, 0, j]), widened(slopes[of, 1, j])
        put(to, (p, h, 1, j), b * widened(cos[p, j]) - a * widened(sin[p, j]))


@loop
def pull(grad: Array, result: Array, layout: Layout, given: Array) -> None:
    """grad, result: [positions, heads dim], or wider; given: [of rows, heads and positions, dim + 2]."""
    (sizes, heads, _), start, at, dim = layout, 0, 0, given.shape[1] - 2
    for r in range(len(sizes)):
        for h in range(heads):
            for p in range(start, start + sizes[r, 0]):
                g, o = grad[p, h * dim : h * dim + dim], result[p, h * dim : h * dim + dim]
                total = f32(0.0)
                for j in range(dim):
                    total += widened(g[j]) * widened(o[j])
                for j in range(dim):
                    given[at, j] = g[j]
                put(given, (at, dim), -total)
                put(given, (at, dim + 1), -total - widened(given[at, dim]))
                at += 1
        start += sizes[r, 0]


@loop
def slopes(scores: Array, rest: Array | None, mask: Array, scale: Any, total: Array, bent: Array) -> None:
    """scores become p; bent, s p times what it was. total: log of the sum of a query's exponentials, [heads, seq]."""
    key_heads, queries, seen = scores.shape
    seq = len(mask)
    ahead, group = seen - seq, queries // seq
    room = np.empty((seen + BLOCK - 1) // BLOCK * BLOCK, np.float32)
    for h in range(key_heads):
        for i in range(queries):
            q = i % seq
            row, hidden, to = scores[h, i], mask[q], bent[h, i]
            end, less = ahead + q + 1, total[h * group + i // seq, q]
            blocks = (end + BLOCK - 1) // BLOCK
            if rest is None:
                for j in range(end):
                    room[j] = widened(row[j])
            else:
                more = rest[h, i]
                for j in range(end):
                    room[j] = widened(row[j]) + widened(more[j])
            for j in range(end):
                logarithm = room[j] * scale - less
                logarithm = min(logarithm, f32(0.0))
                room[j] = logarithm if hidden[j] == 0 else LOWEST
            room[end : blocks * BLOCK] = LOWEST
            for j in range(blocks * BLOCK):
                room[j] = exponential(room[j])
            end = min(blocks * BLOCK, seen)
            for j in range(end):
                put(row, j, room[j])
                put(to, j, widened(to[j]) * room[j] * scale)
            row[end:] = 0
            to[end:] = 0

"""The loops of `learner/kernels/compiled.py` over norms, gates and words; attention's are in `attention_loops.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from learner.kernels.scalars import (
    BLOCK,
    LOWEST,
    Array,
    exponential,
    f32,
    i32,
    logistic,
    loop,
    ordered,
    put,
    widened,
)

Two = tuple[Array, Array]
Three = tuple[Array, Array, Array]


@loop
def add_norm(x: Array, more: Array | None, weight: Array, eps: Any, made: Three) -> None:
    """Into states, [rows, width] as x is, what is normed, the left part of its rows, and one factor a row. Without `more` the states
    are x itself."""
    states, normed, factor = made
    count, width = len(x), len(weight)
    for i in range(count):
        own, to, unit = x[i], states[i], normed[i]
        total = f32(0.0)
        if more is None:
            for j in range(width):
                total += widened(own[j]) * widened(own[j])
        else:
            other = more[i]
            for j in range(width):
                value = widened(own[j]) + widened(other[j])
                put(to, j, value)
                total += value * value
        r = f32(1.0) / np.sqrt(total / f32(width) + eps)
        factor[i] = r
        for j in range(width):
            put(unit, j, widened(to[j]) * r * widened(weight[j]))


@loop
def norm_back(grads: Two, normed: Array, weight: Array, factor: Array, made: Two) -> None:
    """grads: on the sum and on what was normed. Into the gradient on the sum, in two precisions."""
    (given, grad), (wanted, narrow) = grads, made
    count, width = wanted.shape
    inverse = np.empty(width, np.float32)
    for j in range(width):
        inverse[j] = f32(1.0) / widened(weight[j])
    for i in range(count):
        base, slope, unit, to, again = given[i], grad[i], normed[i], wanted[i], narrow[i]
        total = f32(0.0)
        for j in range(width):
            total += widened(slope[j]) * widened(unit[j])
        r = factor[i]
        pull = total * r / f32(width)
        for j in range(width):
            value = r * widened(slope[j]) * widened(weight[j]) - pull * widened(unit[j]) * inverse[j]
            value += widened(base[j])
            put(to, j, value)
            put(again, j, value)


@loop
def gate(both: Array, width: int, opened: Array) -> None:
    """[rows, 2 width] -> [rows, width]; each may be the left part of what is wider."""
    for i in range(len(both)):
        a_row, b_row, to = both[i, :width], both[i, width:], opened[i]
        for j in range(width):
            a = widened(a_row[j])
            put(to, j, a * widened(b_row[j]) * logistic(a))


@loop
def gate_back(both: Array, grad: Array, bent: Array) -> None:
    """[rows, 2 width] and [rows, width] -> [rows, 2 width]."""
    count, width = bent.shape[0], bent.shape[1] // 2
    for i in range(count):
        a_row, b_row, given = both[i, :width], both[i, width:], grad[i]
        to_a, to_b = bent[i, :width], bent[i, width:]
        for j in range(width):
            a, g = widened(a_row[j]), widened(given[j])
            s = logistic(a)
            put(to_a, j, g * widened(b_row[j]) * s * (f32(1.0) + a * (f32(1.0) - s)))
            put(to_b, j, g * a * s)


@loop
def tally(logits: Array, targets: Array, start: int, so_far: Three, shrink: Array) -> None:
    """logits become exp(logit - highest), 0 for the target."""
    high, likeliest, rest = so_far
    count, words = logits.shape
    blocks = (words + BLOCK - 1) // BLOCK
    room = np.empty(blocks * BLOCK, np.float32)
    for i in range(count):
        row, target, before = logits[i], targets[i] - start, high[i]
        for j in range(words):
            room[j] = widened(row[j])
        room[words:] = LOWEST
        if 0 <= target < words:
            room[target] = LOWEST
        most = i32(-0x7FFFFFFF)
        for j in range(blocks * BLOCK):
            most = max(ordered(room[j]), most)
        top = i32(ordered(i32(most).view(np.float32))).view(np.float32)
        if not top <= before:
            high[i] = top
            for j in range(words):
                if room[j] == top:
                    likeliest[i] = start + j
                    break
        less, total = high[i], f32(0.0)
        for j in range(blocks * BLOCK):
            room[j] = exponential(room[j] - less)
            total += room[j]
        shrink[i] = exponential(before - less)
        rest[i] = rest[i] * shrink[i] + total
        for j in range(words):
            put(row, j, room[j])

"""The loops of `learner/kernels/compiled.py`, by numba. Arrays of float32, or of bfloat16 as its 16 bits; numbers between are float32.

Whatever makes the compiler give up on several numbers at once costs ten times the time: reductions to a maximum (made of integers here),
exponentials of the C library, loops that end in the middle of a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload
from numpy.typing import NDArray

Array = NDArray[Any]
Two = tuple[Array, Array]
Parts = tuple[Array, Array, Array]
Layout = tuple[Array, int, int]
"""Of each row its positions and how many it sees before them, heads of queries and of keys."""

BLOCK = 64
"""Exponentials are made of so many numbers at once."""

_f, _i, _u = np.float32, np.int32, np.uint32
LOWEST = _f(-3e38)
_loop: Any = njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})


def _wide(x: Any) -> Any:
    """A number as float32."""


def _put(array: Any, place: Any, value: Any) -> None:
    """array[place] = value, rounded to the nearest."""


@overload(_wide, strict=False)
def _wide_of(x: Any) -> Any:
    if isinstance(x, types.Integer):
        return lambda x: _u(_u(x) << _u(16)).view(np.float32)
    return lambda x: x


@overload(_put, strict=False)
def _put_of(array: Any, place: Any, value: Any) -> Any:
    def half(array: Any, place: Any, value: Any) -> None:
        bits = _f(value).view(np.uint32)
        rounded = np.uint16(_u(bits + _u(0x7FFF) + _u((bits >> _u(16)) & _u(1))) >> _u(16))
        array[place] = (
            np.uint16(0x7FC0) if _u(bits & _u(0x7FFFFFFF)) > _u(0x7F800000) else rounded
        )  # NaN stays NaN

    def whole(array: Any, place: Any, value: Any) -> None:
        array[place] = value

    return half if isinstance(array.dtype, types.Integer) else whole


@_loop
def _exp(x: Any) -> Any:
    """e^x of x <= 88, and 0 below -87: 2^n e^r with x = n log 2 + r, log 2 in two parts, and e^r by its series."""
    kept = max(x, _f(-87.0))
    n = np.floor(kept * _f(1.4426950408889634) + _f(0.5))
    r = kept - n * _f(0.693359375) - n * _f(-0.00021219444005469058)
    series = _f(1 / 720) + r * _f(1 / 5040)
    series = _f(1 / 24) + r * (_f(1 / 120) + r * series)
    series = _f(1.0) + r * (_f(1.0) + r * (_f(0.5) + r * (_f(1 / 6) + r * series)))
    power = _i((_i(n) + _i(127)) << _i(23)).view(np.float32)
    return _f(0.0) if x < _f(-87.0) else series * power


@_loop
def _open(x: Any) -> Any:
    """The logistic function; 1.6e-38 below -87."""
    return _f(1.0) / (_f(1.0) + _exp(-x if x > _f(-87.0) else _f(87.0)))


@_loop
def _ordered(x: Any) -> Any:
    """An integer that is larger where x is; its own inverse on the bits."""
    bits = _f(x).view(np.int32)
    return _i(bits ^ _i(_i(bits >> _i(31)) & _i(0x7FFFFFFF)))


@_loop
def add_norm(x: Array, more: Array | None, weight: Array, eps: Any, made: Parts) -> None:
    """Into states, [rows, width] as x is, what is normed, and one factor a row. Without `more` the states are x itself."""
    states, normed, factor = made
    count, width = normed.shape
    for i in range(count):
        own, to, unit = x[i], states[i], normed[i]
        total = _f(0.0)
        if more is None:
            for j in range(width):
                total += _wide(own[j]) * _wide(own[j])
        else:
            other = more[i]
            for j in range(width):
                value = _wide(own[j]) + _wide(other[j])
                _put(to, j, value)
                total += value * value
        r = _f(1.0) / np.sqrt(total / _f(width) + eps)
        factor[i] = r
        for j in range(width):
            _put(unit, j, _wide(to[j]) * r * _wide(weight[j]))


@_loop
def norm_back(grads: Two, normed: Array, weight: Array, factor: Array, made: Two) -> None:
    """grads: on the sum and on what was normed. Into the gradient on the sum, in two precisions."""
    (given, grad), (wanted, narrow) = grads, made
    count, width = wanted.shape
    inverse = np.empty(width, np.float32)
    for j in range(width):
        inverse[j] = _f(1.0) / _wide(weight[j])
    for i in range(count):
        base, slope, unit, to, again = given[i], grad[i], normed[i], wanted[i], narrow[i]
        total = _f(0.0)
        for j in range(width):
            total += _wide(slope[j]) * _wide(unit[j])
        r = factor[i]
        pull = total * r / _f(width)
        for j in range(width):
            value = r * _wide(slope[j]) * _wide(weight[j]) - pull * _wide(unit[j]) * inverse[j]
            value += _wide(base[j])
            _put(to, j, value)
            _put(again, j, value)


@_loop
def gate(both: Array, opened: Array) -> None:
    """[rows, 2 width] -> [rows, width]."""
    count, width = opened.shape
    for i in range(count):
        a_row, b_row, to = both[i, :width], both[i, width:], opened[i]
        for j in range(width):
            a = _wide(a_row[j])
            _put(to, j, a * _wide(b_row[j]) * _open(a))


@_loop
def gate_back(both: Array, grad: Array, bent: Array) -> None:
    """[rows, 2 width] and [rows, width] -> [rows, 2 width]."""
    count, width = bent.shape[0], bent.shape[1] // 2
    for i in range(count):
        a_row, b_row, given = both[i, :width], both[i, width:], grad[i]
        to_a, to_b = bent[i, :width], bent[i, width:]
        for j in range(width):
            a, g = _wide(a_row[j]), _wide(given[j])
            s = _open(a)
            _put(to_a, j, g * _wide(b_row[j]) * s * (_f(1.0) + a * (_f(1.0) - s)))
            _put(to_b, j, g * a * s)


@_loop
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
                _put(value, (to_key, 2 * half), _f(1.0))
                _put(value, (to_key, 2 * half + 1), _f(1.0))
                to_key += 1
        start += seq


@_loop
def _turn(product: Array, p: int, h: int, rotary: Two, to: Array, at: int) -> None:
    cos, sin = rotary
    for j in range(cos.shape[1]):
        a, b = _wide(product[p, h, 0, j]), _wide(product[p, h, 1, j])
        c, s = _wide(cos[p, j]), _wide(sin[p, j])
        _put(to, (at, 0, j), a * c - b * s)
        _put(to, (at, 1, j), b * c + a * s)


@_loop
def add_seen(part: Array, sizes: Array, key_heads: int) -> None:
    """To the first row's, what other rows say of it, in place. part: [of rows, heads and positions, numbers]."""
    first, width = sizes[0, 0], part.shape[1]
    room = np.empty(width, np.float32)
    for h in range(key_heads):
        for p in range(first):
            for j in range(width):
                room[j] = _wide(part[h * first + p, j])
            row = key_heads * first
            for r in range(1, len(sizes)):
                length, ahead = sizes[r, 0] + sizes[r, 1], sizes[r, 1]
                if p < ahead:
                    at = row + h * length + p
                    for j in range(width):
                        room[j] += _wide(part[at, j])
                row += key_heads * length
            for j in range(width):
                _put(part, (h * first + p, j), room[j])


@_loop
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


@_loop
def _turn_back(slopes: Array, of: int, rotary: Two, to: Array, p: int, h: int) -> None:
    cos, sin = rotary
    for j in range(cos.shape[1]):
        a, b = _wide(slopes[of, 0, j]), _wide(slopes[of, 1, j])
        _put(to, (p, h, 0, j), a * _wide(cos[p, j]) + b * _wide(sin[p, j]))
    for j in range(cos.shape[1]):
        a, b = _wide(slopes[of, 0, j]), _wide(slopes[of, 1, j])
        _put(to, (p, h, 1, j), b * _wide(cos[p, j]) - a * _wide(sin[p, j]))


@_loop
def pull(grad: Array, result: Array, lengths: Array, given: Array) -> None:
    """grad, result: [positions, heads, dim]; given: [of rows, heads and positions, dim + 2]."""
    start, at, (_, heads, dim) = 0, 0, grad.shape
    for r in range(len(lengths)):
        for h in range(heads):
            for p in range(start, start + lengths[r]):
                total = _f(0.0)
                for j in range(dim):
                    total += _wide(grad[p, h, j]) * _wide(result[p, h, j])
                for j in range(dim):
                    given[at, j] = grad[p, h, j]
                _put(given, (at, dim), -total)
                _put(given, (at, dim + 1), -total - _wide(given[at, dim]))
                at += 1
        start += lengths[r]


@_loop
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
                    room[j] = _wide(row[j])
            else:
                more = rest[h, i]
                for j in range(end):
                    room[j] = _wide(row[j]) + _wide(more[j])
            for j in range(end):
                logarithm = room[j] * scale - less
                logarithm = min(logarithm, _f(0.0))
                room[j] = logarithm if hidden[j] == 0 else LOWEST
            room[end : blocks * BLOCK] = LOWEST
            for j in range(blocks * BLOCK):
                room[j] = _exp(room[j])
            end = min(blocks * BLOCK, seen)
            for j in range(end):
                _put(row, j, room[j])
                _put(to, j, _wide(to[j]) * room[j] * scale)
            row[end:] = 0
            to[end:] = 0


@_loop
def tally(logits: Array, targets: Array, start: int, so_far: Parts, shrink: Array) -> None:
    """logits become exp(logit - highest), 0 for the target."""
    high, likeliest, rest = so_far
    count, words = logits.shape
    blocks = (words + BLOCK - 1) // BLOCK
    room = np.empty(blocks * BLOCK, np.float32)
    for i in range(count):
        row, target, before = logits[i], targets[i] - start, high[i]
        for j in range(words):
            room[j] = _wide(row[j])
        room[words:] = LOWEST
        if 0 <= target < words:
            room[target] = LOWEST
        most = _i(-0x7FFFFFFF)
        for j in range(blocks * BLOCK):
            most = max(_ordered(room[j]), most)
        top = _i(_ordered(_i(most).view(np.float32))).view(np.float32)
        if not top <= before:
            high[i] = top
            for j in range(words):
                if room[j] == top:
                    likeliest[i] = start + j
                    break
        less, total = high[i], _f(0.0)
        for j in range(blocks * BLOCK):
            room[j] = _exp(room[j] - less)
            total += room[j]
        shrink[i] = _exp(before - less)
        rest[i] = rest[i] * shrink[i] + total
        for j in range(words):
            _put(row, j, room[j])

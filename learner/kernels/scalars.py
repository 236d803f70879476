"""Numbers within the loops of `learner/kernels/loops.py` and `attention_loops.py`, by numba: arrays hold float32, or bfloat16 as its 16 bits; what is
between is float32.

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

BLOCK = 64
"""Exponentials are made of so many numbers at once."""

f32, i32, u32 = np.float32, np.int32, np.uint32
LOWEST = f32(-3e38)
loop: Any = njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})


def widened(x: Any) -> Any:
    """A number as float32."""


def put(array: Any, place: Any, value: Any) -> None:
    """array[place] = value, rounded to the nearest."""


@overload(widened, strict=False)
def _widened_of(x: Any) -> Any:
    if isinstance(x, types.Integer):
        return lambda x: u32(u32(x) << u32(16)).view(np.float32)
    return lambda x: x


@overload(put, strict=False)
def _put_of(array: Any, place: Any, value: Any) -> Any:
    def half(array: Any, place: Any, value: Any) -> None:
        bits = f32(value).view(np.uint32)
        rounded = np.uint16(u32(bits + u32(0x7FFF) + u32((bits >> u32(16)) & u32(1))) >> u32(16))
        is_nan = u32(bits & u32(0x7FFFFFFF)) > u32(0x7F800000)  # the addition may make 0 of one
        array[place] = np.uint16(0x7FC0) if is_nan else rounded

    def whole(array: Any, place: Any, value: Any) -> None:
        array[place] = value

    return half if isinstance(array.dtype, types.Integer) else whole


@loop
def exponential(x: Any) -> Any:
    """e^x of x <= 88, and 0 below -87: 2^n e^r with x = n log 2 + r, log 2 in two parts, and e^r by its series."""
    kept = max(x, f32(-87.0))
    n = np.floor(kept * f32(1.4426950408889634) + f32(0.5))
    r = kept - n * f32(0.693359375) - n * f32(-0.00021219444005469058)
    series = f32(1 / 720) + r * f32(1 / 5040)
    series = f32(1 / 24) + r * (f32(1 / 120) + r * series)
    series = f32(1.0) + r * (f32(1.0) + r * (f32(0.5) + r * (f32(1 / 6) + r * series)))
    power = i32((i32(n) + i32(127)) << i32(23)).view(np.float32)
    return f32(0.0) if x < f32(-87.0) else series * power


@loop
def logistic(x: Any) -> Any:
    """The logistic function; 1.6e-38 below -87."""
    return f32(1.0) / (f32(1.0) + exponential(-x if x > f32(-87.0) else f32(87.0)))


@loop
def ordered(x: Any) -> Any:
    """An integer that is larger where x is; its own inverse on the bits."""
    bits = f32(x).view(np.int32)
    return i32(bits ^ i32(i32(bits >> i32(31)) & i32(0x7FFFFFFF)))

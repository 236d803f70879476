"""What one measurement of token streams says: token/s, and when tokens came."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

Say = Callable[[int, int], AsyncIterator[int]]
"""(number of the stream, most tokens) → how many tokens each piece brings."""


@dataclass(frozen=True)
class Figures:
    """Of one measurement. tok_s: all tokens over the time from the first request to the last token; times in ms."""

    tok_s: float
    first_token_p50_ms: float
    first_token_p99_ms: float
    inter_token_p50_ms: float
    inter_token_p99_ms: float


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed; 0 for none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


async def measure(say: Say, streams: int, tokens: int) -> Figures:
    """Start so many streams at once and read each to its end. A piece of n tokens counts as n gaps of its n-th part."""
    began = time.perf_counter()

    async def read(number: int) -> tuple[float, list[float], int]:
        first, last, gaps, count = 0.0, 0.0, [], 0
        async for brought in say(number, tokens):
            now = time.perf_counter()
            first = first or now - began
            gaps += [(now - last) / brought] * brought if count else []
            last, count = now, count + brought
        return first, gaps, count

    read_all = await asyncio.gather(*(read(number) for number in range(streams)))
    seconds = time.perf_counter() - began
    firsts, gaps = [first for first, _, _ in read_all], [gap for _, gaps, _ in read_all for gap in gaps]
    return Figures(
        sum(count for _, _, count in read_all) / seconds,
        *(1e3 * percentile(values, share) for values in (firsts, gaps) for share in (0.5, 0.99)),
    )


@dataclass(frozen=True)
class Door:
    """One way to the model, open. modes: what can be measured there, by name of the JSON's prefix."""

    modes: dict[str, Say]
    close: Callable[[], Awaitable[None]]

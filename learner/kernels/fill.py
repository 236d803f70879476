"""Sizes of products that come again."""

from __future__ import annotations

SHORT, LONG = 16, 32
"""Positions are filled up to a multiple of so many, of the second beyond `LONGER`: a size that a process has not multiplied before costs
milliseconds, and half a megabyte of code that is kept (docs/experiments.md, "The learner's core")."""
LONGER = 128
WIDE = 64
"""The same for a batch of several rows beyond `WIDER`: of 1,000 positions its fillers are a fortieth, which costs less than a new size."""
WIDER = 256


def filled(count: int) -> int:
    """The next size that is used."""
    return _up(count, SHORT if count <= LONGER else LONG)


def filled_batch(count: int) -> int:
    """The next size of a batch of several rows that is used."""
    return _up(count, WIDE) if count > WIDER else count


def _up(count: int, step: int) -> int:
    return -(-count // step) * step

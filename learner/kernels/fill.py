"""Sizes of products that come again."""

from __future__ import annotations

SHORT, LONG = 16, 32
"""Positions are filled up to a multiple of so many, of the second beyond `LONGER`: a size that a process has not multiplied before costs
milliseconds, and half a megabyte of code that is kept (docs/experiments.md, "The learner's core")."""
LONGER = 128


def filled(count: int) -> int:
    """The next size that is used."""
    step = SHORT if count <= LONGER else LONG
    return -(-count // step) * step

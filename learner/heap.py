"""Memory that is free goes back to the machine. glibc keeps it for the next step, where what lives long lies between: after some steps a
process held as much free as in use (docs/experiments.md, "The learner's core")."""

from __future__ import annotations

import ctypes
from functools import cache


def give_back() -> None:
    """Whole free pages, wherever they lie; some hundredths of a second. Without glibc nothing happens."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)


def give_back_after(step: int) -> None:
    """After steps 1, 2, 4, 8 and so on: most of what is kept is made in the first ones, and what was given back has to be fetched again."""
    if step & (step - 1) == 0:
        give_back()


@cache
def _libc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        return None
    libc.malloc_trim.argtypes = [ctypes.c_size_t]
    return libc

"""Memory that is free goes back to the machine. glibc keeps it for the next step, where what lives long lies between: after some steps a
process held as much free as in use (docs/experiments.md, "The learner's core")."""

from __future__ import annotations

import ctypes
from functools import cache


def give_back() -> None:
    """Whole free pages, wherever they lie; some hundredths of a second. Without glibc nothing happens."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)


@cache
def _libc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        return None
    libc.malloc_trim.argtypes = [ctypes.c_size_t]
    return libc

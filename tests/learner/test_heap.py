"""Free memory goes back, also what lies below something that is kept."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from learner import heap

PROGRAM = """
import os
from pathlib import Path
from learner import heap

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

pieces = [bytearray(100_000) for _ in range(1000)]
kept, pieces = pieces[::10], None
before = resident()
heap.give_back()
print(before - resident())
"""


@pytest.mark.skipif(heap._libc() is None, reason="another C library")
def test_what_lies_free_between_what_is_kept_goes_back() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(ran.stdout) > 70e6, "90 of 100 pieces were freed"


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    heap._libc.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(ctypes, "CDLL", lambda _: object())
        assert heap._libc() is None
        heap.give_back()
    heap._libc.cache_clear()

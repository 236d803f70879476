"""In which precision a model is run."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def choose_dtype(wanted: str, cuda: bool, cpuinfo: str) -> str:
    """`auto` is bfloat16 where the hardware multiplies it, else float32: emulated bfloat16 is the slower one.

    cpuinfo: the text of /proc/cpuinfo (its flags decide).
    """
    if wanted != "auto":
        return wanted
    return "bfloat16" if cuda or "amx_bf16" in cpuinfo or "avx512_bf16" in cpuinfo else "float32"


def dtype_here(wanted: str, cuda: bool) -> str:
    """The same, of this machine."""
    return choose_dtype(wanted, cuda, CPUINFO.read_text() if CPUINFO.exists() else "")

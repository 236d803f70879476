"""One key from a terminal, or one line from anything else."""

from __future__ import annotations

import sys
from collections.abc import Mapping

ASK = "better: [a] left  [b] right  [t] tie  [n] neither is good  [s] skip"
KEYS: Mapping[str, str] = {
    "a": "CHOICE_A",
    "b": "CHOICE_B",
    "t": "CHOICE_TIE",
    "n": "CHOICE_BOTH_BAD",
    "s": "CHOICE_SKIP",
}


def pick() -> str:
    """The name of the Choice that the person makes; end of input skips. Other keys are ignored."""
    while key := _key():
        if choice := KEYS.get(key.lower()):
            return choice
        print(ASK)
    return "CHOICE_SKIP"


def _key() -> str:
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return line.strip()[:1] or "?" if line else ""
    return _raw_key()


def _raw_key() -> str:
    import termios
    import tty

    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    try:
        tty.setcbreak(handle)
        key = sys.stdin.read(1)
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
    return "" if key == "\x04" else key

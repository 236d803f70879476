"""One key from a terminal, or one line from anything else."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping

from heliotrope.v1 import feedback_pb2

ASK = "better: [a] left  [b] right  [t] tie  [n] neither is good  [s] skip"
KEYS: Mapping[str, feedback_pb2.Choice] = {
    "a": feedback_pb2.CHOICE_A,
    "b": feedback_pb2.CHOICE_B,
    "t": feedback_pb2.CHOICE_TIE,
    "n": feedback_pb2.CHOICE_BOTH_BAD,
    "s": feedback_pb2.CHOICE_SKIP,
}


def pick() -> feedback_pb2.Choice:
    """Ask, and give what the person picks; end of input skips. Other keys are answered with the question."""
    with _single_keys():
        print(ASK, flush=True)
        while key := _key():
            if choice := KEYS.get(key.lower()):
                return choice
            print(ASK, flush=True)
    return feedback_pb2.CHOICE_SKIP


@contextlib.contextmanager
def _single_keys() -> Iterator[None]:
    """Keys without Enter while it lasts. What was typed before the question is dropped: it was no answer to it."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    try:
        tty.setcbreak(handle, termios.TCSAFLUSH)
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def _key() -> str:
    """One key, or the first letter of a line; empty at the end of input."""
    if sys.stdin.isatty():
        key = os.read(sys.stdin.fileno(), 1).decode(errors="replace")
        return "" if key == "\x04" else key
    line = sys.stdin.readline()
    return line.strip()[:1] or "?" if line else ""

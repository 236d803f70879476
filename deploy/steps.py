"""What set-up steps share: how a step fails, how a long command shows progress, one set-up at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GIB = 1024**3


class SetupError(Exception):
    """A step failed: `what` failed, and `remedy`, what to do about it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"set-up failed: {what}\nWhat to do: {remedy}")


def say(text: str) -> None:
    """Print at once, so that a pipe shows it too."""
    print(text, flush=True)


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Announce a step and, when it ends well, the seconds that it took."""
    began = time.monotonic()
    say(f"set-up: {name} ...")
    yield
    say(f"set-up: {name}: done in {time.monotonic() - began:.0f} s")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the only set-up of this checkout; a second one waits. The lock dies with its process."""
    handle = os.open(ROOT / "deploy", os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("set-up: another set-up is running here; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def require_disk(folder: Path, needed_gib: float) -> None:
    """Raise SetupError unless the disk that holds `folder` has `needed_gib` GiB free."""
    free = shutil.disk_usage(folder).free / GIB
    if free < needed_gib:
        raise SetupError(
            f"{free:.1f} GiB free on the disk of {folder}, and {needed_gib:g} GiB are needed",
            "free some space (`pip cache purge` helps) or move the checkout to a larger disk, then run again.",
        )


def run_loud(command: Sequence[str], remedy: str, count: str = "Collecting") -> None:
    """Run `command`, printing a count of its lines that begin with `count`; raise SetupError with its last lines."""
    tail: deque[str] = deque(maxlen=15)
    seen = 0
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith("WARNING: Location"):
                tail.append(line.rstrip())
            if line.startswith(count):
                seen += 1
                if seen % 50 == 0:
                    say(f"set-up:   {seen} packages found")
            elif line.startswith("Installing collected"):
                say("set-up:   installing them")
    if process.returncode != 0:
        raise SetupError(_failure(command, tail), _remedy(tail, remedy))


def _failure(command: Sequence[str], tail: Sequence[str]) -> str:
    return f"`{' '.join(command)}` exited with an error; its last lines:\n  " + "\n  ".join(tail)


def _remedy(tail: Sequence[str], remedy: str) -> str:
    text = "\n".join(tail)
    if "No space left" in text:
        return "the disk is full: free some space, then run again; what is installed already is kept."
    if "Errno 13" in text or "Permission denied" in text:
        return "a file could not be written: check who owns the checkout and the user cache, then run again."
    return remedy


def exit_on_error(main: object) -> int:
    """Call `main()`; a SetupError becomes its message on stderr and exit code 1, Ctrl-C becomes 130."""
    assert callable(main)
    try:
        main()
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up stopped; run the same command again to go on", file=sys.stderr)
        return 130
    return 0

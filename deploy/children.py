"""Serving and learner as child processes: logs in files, the last lines shown when one dies, none ever left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from heliotrope.client import AsyncClient
from heliotrope.errors import HeliotropeError, Unavailable

PORTS = range(20_000, 32_000)
"""Below what Linux (32768) and others (49152) give to outgoing connections."""
TAIL = 15
"""Lines of a dead child's log that are shown."""
NOISE = ("nanobind: ", " - leaked ", " - ... skipped ", "See https://nanobind.readthedocs.io/")
"""How lines begin that the engine's libraries say of themselves at every end, after the program's own last words."""
TETHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
"""
"""Runs a module that gets SIGTERM when its parent is killed outright (PR_SET_PDEATHSIG outlives the exec)."""
ROOT = Path(__file__).resolve().parent.parent


class ChildDied(HeliotropeError):
    """A program ended by itself; the message holds its last words."""


@dataclass(frozen=True)
class Child:
    """A program that runs, and the file with what it says."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    def last_words(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        said = [line for line in lines if not line.startswith(NOISE)]
        return "\n".join(f"  {line}" for line in said[-TAIL:]) or "  (it said nothing)"


async def start(name: str, arguments: Sequence[str], log: Path) -> Child:
    """Run `python -m arguments…` in a session of its own, so that Ctrl-C reaches it through us only."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", TETHER, *arguments, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file,
            env=os.environ | {"PYTHONUNBUFFERED": "1"}, start_new_session=True,
        )  # fmt: skip
    return Child(name, process, log)


@contextlib.asynccontextmanager
async def keeping(children: list[Child], grace: float = 45.0) -> AsyncIterator[None]:
    """Run the block while all `children` live (more may be added); raises ChildDied when one ends. All end with it."""
    here = asyncio.current_task()
    assert here is not None
    dead: list[Child] = []

    async def watch() -> None:
        while not (found := [child for child in children if child.process.returncode is not None]):
            await asyncio.sleep(0.2)
        dead.extend(found)
        here.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not dead:
            raise
        here.uncancel()
        raise died(dead[0]) from None
    finally:
        watcher.cancel()
        await stop(children, grace)


def died(child: Child) -> ChildDied:
    """The error that tells of a child's end."""
    code = child.process.returncode
    return ChildDied(f"{child.name} ended with status {code}; the end of {child.log}:\n{child.last_words()}")


async def stop(children: Sequence[Child], grace: float) -> None:
    """SIGTERM to each, a wait of at most `grace` seconds, then SIGKILL to whatever is left of its session."""
    for child in children:
        if child.process.returncode is None:
            child.process.terminate()
    waits = [asyncio.create_task(child.process.wait()) for child in children]
    try:
        if waits:
            await asyncio.wait(waits, timeout=grace)
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
        await asyncio.gather(*waits)


async def healthy(client: AsyncClient, seconds: float) -> None:
    """Wait until serving answers. Raises Unavailable after `seconds`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        try:
            await client.status()
            return
        except Unavailable as error:
            if loop.time() > end:
                raise Unavailable(f"serving is not ready after {seconds:.0f} s: {error}") from error
        await asyncio.sleep(0.3)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on, all different. None of those that systems give to outgoing connections:
    one of these may be taken again in the seconds until a server is up."""
    found: set[int] = set()
    while len(found) < count:
        port = secrets.choice(PORTS)
        if not port_taken("127.0.0.1", port):
            found.add(port)
    return list(found)


def port_taken(host: str, port: int) -> bool:
    """Whether somebody listens on the port already."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, port))
        except OSError:
            return True
    return False


def cancel_on_signals() -> None:
    """SIGINT and SIGTERM cancel the calling task, so that every `finally` runs."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)

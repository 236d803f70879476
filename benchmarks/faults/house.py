"""One small installation in a folder: its configuration, its broker, and its programs, which come and go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from benchmarks.faults.programs import Orders, learn, serve, serve_calls
from benchmarks.faults.votes_load import Load
from benchmarks.local_broker import LocalBroker
from deploy.children import free_ports
from heliotrope.config import Config, load

LEARNER = "benchmarks.faults.learner_program"
PRELOAD = ["benchmarks.faults.programs", LEARNER]
"""What the fork server imports before it forks: 15 s of torch once, and not at each start of the learner."""
STOP_SECONDS, TELL_SECONDS = 20.0, 0.5
STEP = 0.01


@dataclass
class Program:
    """One life of a program. began: seconds of a monotonic clock."""

    process: ForkServerProcess
    began: float = field(default_factory=time.monotonic)

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    async def ended(self, seconds: float) -> bool:
        """Wait for its end, at most so long; whether it came."""
        end = time.monotonic() + seconds
        while self.alive and time.monotonic() < end:
            await asyncio.sleep(STEP)
        return not self.alive

    def kill(self) -> None:
        """SIGKILL, and wait for it."""
        self.process.kill()
        self.process.join()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, as SIGSTOP; to one that has ended it does nothing."""
        with contextlib.suppress(ProcessLookupError):
            if self.alive and self.process.pid:
                os.kill(self.process.pid, number)

    async def stop(self) -> int | None:
        """SIGTERM, and SIGKILL for one that does not heed it, which says before in its log where it stands; its exit code."""
        self.process.terminate()
        if not await self.ended(STOP_SECONDS):
            self.signal(signal.SIGUSR1)
            await self.ended(TELL_SECONDS)
            self.kill()
        return self.process.exitcode


@dataclass
class House:
    """Where everything of one installation is. bug: planted into each of its programs. breaking: held by what befalls the
    broker."""

    folder: Path
    config: Config
    broker: LocalBroker | None
    bug: str = ""
    breaking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def open(cls, folder: Path, model: Path, kind: str, bug: str = "") -> House:
        """A fresh one in an empty folder; its broker runs."""
        public, private, http, port = free_ports(4)
        broker = LocalBroker(port) if kind == "kafka" else None
        if broker:
            broker.start()
        return cls(folder, settings(folder, model, kind, (public, private, http), port), broker, bug)

    def serving(self, failpoints: str = "") -> Program:
        """Start serving."""
        return self._start(serve, "serving", failpoints)

    def learner(self, failpoints: str = "") -> Program:
        """Start the learner."""
        return self._start(learn, "learner", failpoints)

    def calls(self, load: Load, output: Path) -> Program:
        """Start a serving that gives the votes of a load to itself and ends."""
        return Program(fork(serve_calls, self._orders("serving"), load, output))

    def _start(self, program: Callable[[Orders], None], name: str, failpoints: str) -> Program:
        return Program(fork(program, self._orders(name, failpoints)))

    def _orders(self, name: str, failpoints: str = "") -> Orders:
        return Orders(self.config, failpoints, self.bug, self.folder / f"{name}.log")

    def close(self) -> None:
        """End the broker."""
        if self.broker:
            self.broker.kill()


def fork(target: Callable[..., None], *values: object) -> ForkServerProcess:
    """A process of its own, forked from one that has imported everything."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=target, args=values, daemon=True)
    process.start()
    return process


def settings(folder: Path, model: Path, kind: str, ports: tuple[int, int, int], broker: int) -> Config:
    """A small and quick installation: a broker that is slow is given up after two seconds, four votes make a version."""
    public, private, http = ports
    return load(
        None,
        [
            f"paths.state={folder / 'state'}", f"model.path={model}", "model.max_context=512",
            f"log.kind={kind}", f"kafka.bootstrap_servers=127.0.0.1:{broker}", "kafka.timeout_seconds=2",
            "kafka.partitions=3", f"serving.public_port={public}", f"serving.private_port={private}",
            f"serving.http_port={http}", "serving.drain_seconds=2", "serving.max_tokens=16",
            "comparisons.share=1e-12", "learner.min_new=4", "learner.window=12", "learner.poll_seconds=0.1", "learner.nice=0",
            "learner.threads=1", "lora.rank=4", "judge.prompts=2", "judge.max_tokens=8",
        ],
    )  # fmt: skip

"""What does training cost the people who are served on the same cores? `python -m benchmarks.neighbour --pairs FILE`; JSON last.

One serving process on the real engine and one trainer in a process of its own, niced and waiting passively as the learner
does (`benchmarks.neighbour_trainer`), which also pauses as the learner does while more than four
people a core are answered; stopped and continued by signals. In turns: people alone, people beside the trainer, the
trainer alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fairness import Plan, Waits, figures, people
from benchmarks.house import House, house

SETTLE_SECONDS = 2.0
"""After the trainer was stopped or continued, before a measurement."""


@dataclass(frozen=True)
class Trainer:
    """A trainer that stands still unless it is let run. steps: when each of its steps ended (monotonic seconds), and of how
    many pairs."""

    process: asyncio.subprocess.Process
    steps: list[tuple[float, int]]

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, pairs: Path, serving: str) -> AsyncIterator[Trainer]:
        """Returns when it has taken its first step."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.neighbour_trainer", str(pairs), serving,
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        trainer = cls(process, [])
        reading = asyncio.create_task(trainer._read())
        try:
            while not trainer.steps:
                if reading.done():
                    raise RuntimeError("the trainer ended; see above")
                await asyncio.sleep(0.1)
            process.send_signal(signal.SIGSTOP)
            yield trainer
        finally:
            process.kill()
            await process.wait()
            await reading

    async def _read(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            ended, pairs = json.loads(line)
            self.steps.append((ended, pairs))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """It trains until the end of the block."""
        self.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(SETTLE_SECONDS)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(SETTLE_SECONDS)

    def rate(self, begin: float, end: float) -> float:
        """Pairs a second between two times: of the steps that ended in between, over the time from the one before them."""
        ended = [at for at, _ in self.steps]
        inside = [k for k, at in enumerate(ended) if begin <= at <= end and k and ended[k - 1] >= begin]
        if not inside:
            return 0.0
        return sum(self.steps[k][1] for k in inside) / (ended[inside[-1]] - ended[inside[0] - 1])


@dataclass
class Tally:
    """Of all rounds: people's waits and seconds, and the trainer's rates."""

    waits: Waits
    seconds: float = 0.0

    async def people(self, at: House, plan: Plan) -> tuple[float, float]:
        """One phase; from when to when it was."""
        began = time.monotonic()
        self.waits.add(await people(at, plan))
        ended = time.monotonic()
        self.seconds += ended - began
        return began, ended

    @property
    def tokens_per_second(self) -> float:
        """To all people together."""
        return self.waits.tokens / self.seconds


async def measure(plan: Plan, pairs: Path) -> dict[str, object]:
    """All figures of one run."""
    alone, beside = Tally(Waits()), Tally(Waits())
    with_people, by_itself = list[float](), list[float]()
    async with house() as at, Trainer.start(pairs, at.config.serving.private_address) as trainer:
        await people(at, Plan(plan.streams, 2, 1, plan.tokens, 0))
        for number in range(plan.rounds):
            await alone.people(at, plan)
            async with trainer.running():
                with_people.append(trainer.rate(*await beside.people(at, plan)))
            async with trainer.running():
                began = time.monotonic()
                await asyncio.sleep(plan.seconds)
                by_itself.append(trainer.rate(began, time.monotonic()))
            say(
                f"round {number + 1}: {alone.tokens_per_second:.1f} token/s alone, {beside.tokens_per_second:.1f} beside; "
                f"trainer {with_people[-1]:.2f} pairs/s beside people, {by_itself[-1]:.2f} alone"
            )
    return figures(plan, alone.waits, beside.waits) | {
        "tok_s_alone": round(alone.tokens_per_second, 1),
        "tok_s_beside": round(beside.tokens_per_second, 1),
        "tok_s_kept": round(beside.tokens_per_second / alone.tokens_per_second, 3),
        "trainer_pairs_s_alone": round(sum(by_itself) / plan.rounds, 3),
        "trainer_pairs_s_beside": round(sum(with_people) / plan.rounds, 3),
        "cores": len(os.sched_getaffinity(0)),
    }


def say(text: str) -> None:
    """Progress, to stderr."""
    print(f"neighbour: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbour", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="JSON Lines of people's pairs to train on")
    parser.add_argument("--streams", type=int, default=8, help="people at once")
    parser.add_argument("--seconds", type=float, default=30, help="length of one phase")
    parser.add_argument("--rounds", type=int, default=2, help="how often each measurement is taken, in turns")
    parser.add_argument("--tokens", type=int, default=32, help="longest answer")
    asked = parser.parse_args()
    plan = Plan(asked.streams, asked.seconds, asked.rounds, asked.tokens, samples=0)
    print(json.dumps(asyncio.run(measure(plan, asked.pairs))))


if __name__ == "__main__":
    main()

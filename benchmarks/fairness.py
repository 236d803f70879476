"""Do the learner's samples stay below people, and use what people leave? `python -m benchmarks.fairness`; JSON last.

In one run on one engine: first-token times of people's streams alone and with a draw that always has more to do, in turns;
and with nobody there, token/s of the draw against the bare engine on the same prompts and as many streams.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import mean

from benchmarks.house import House, house
from heliotrope.chat import Message
from heliotrope.simulate.prompts import asked
from heliotrope.v1 import chat_pb2, common_pb2, sampler_pb2
from serving.engine import Sampling
from serving.sample_gate import LINGER_SECONDS

HEAD_START_SECONDS = 5.0  # so that people arrive at an engine full of samples


@dataclass(frozen=True)
class Plan:
    """Sizes. streams: people at once; seconds: of each of the 2 · rounds phases with people; tokens: of an answer and a sample."""

    streams: int
    seconds: float
    rounds: int
    tokens: int
    samples: int


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def sampling(tokens: int) -> common_pb2.Sampling:
    """Temperature 1, so many tokens at most."""
    return common_pb2.Sampling(temperature=1.0, max_tokens=tokens)


@dataclass
class Waits:
    """Times to the first token, s: of the turn with which a person arrives, together with all others, and of later ones; and
    how many tokens came."""

    arriving: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    tokens: int = 0

    def add(self, other: Waits) -> None:
        """Take another phase's in."""
        self.arriving += other.arriving
        self.later += other.later
        self.tokens += other.tokens


async def person(at: House, number: int, until: float, tokens: int, waits: Waits) -> None:
    """Ask again as soon as the answer has ended."""
    turn = 0
    while time.monotonic() < until:
        prompt = asked()[(7 * number + turn) % len(asked())]
        length = Random(1000 * number + turn).randint(tokens // 2, tokens)  # or all would ask in step
        request = chat_pb2.ChatRequest(
            request_id=uuid.uuid4().hex, message=f"{prompt} ({number}.{turn})", sampling=sampling(length)
        )
        began, first = time.monotonic(), 0.0
        async for chunk in at.chats.Chat(request):
            if chunk.HasField("delta"):
                first = first or time.monotonic()
                waits.tokens += chunk.delta.tokens
        (waits.later if turn else waits.arriving).append((first or time.monotonic()) - began)
        turn += 1


async def people(at: House, plan: Plan) -> Waits:
    """`streams` people arrive at once and ask without a pause for `seconds`."""
    waits = Waits()
    until = time.monotonic() + plan.seconds
    await asyncio.gather(*(person(at, i, until, plan.tokens, waits) for i in range(plan.streams)))
    return waits


def draw(prompts: int, tokens: int) -> sampler_pb2.DrawRequest:
    """One sample of each of so many prompts from the live policy."""
    texts = [f"{asked()[i % len(asked())]} (sample {i})" for i in range(prompts)]
    messages = [[common_pb2.Message(role=common_pb2.ROLE_USER, content=text)] for text in texts]
    return sampler_pb2.DrawRequest(
        adapter="live",
        n=1,
        sampling=sampling(tokens),
        prompts=[sampler_pb2.Prompt(messages=m) for m in messages],
    )


async def saturate(at: House, tokens: int, drawn: list[int]) -> None:
    """Draw for ever; the number of tokens of each sample goes into `drawn`."""
    while True:
        async for sample in at.samples.Draw(draw(1024, tokens)):
            drawn.append(len(sample.token_ids))


async def drawn_rate(at: House, plan: Plan) -> float:
    """token/s of a draw with nobody else there."""
    began, tokens = time.monotonic(), 0
    async for sample in at.samples.Draw(draw(plan.samples, plan.tokens)):
        tokens += len(sample.token_ids)
    return tokens / (time.monotonic() - began)


async def engine_rate(at: House, plan: Plan) -> float:
    """token/s of the bare engine on the same prompts, with as many streams as the draw may have."""
    engine, chat = at.server.engine, at.server.replies.format
    left = iter([p.messages[0].content for p in draw(plan.samples, plan.tokens).prompts])
    counts: list[int] = []

    async def stream() -> None:
        for text in left:
            ids = chat.prompt_ids([Message("user", text)])
            async for piece in engine.generate(uuid.uuid4().hex, ids, Sampling(1.0, plan.tokens), None):
                counts.append(len(piece.token_ids))

    began = time.monotonic()
    await asyncio.gather(*(stream() for _ in range(at.config.serving.sampler_streams)))
    return sum(counts) / (time.monotonic() - began)


async def beside(at: House, plan: Plan) -> tuple[Waits, float]:
    """People while a draw saturates, and the draw's token/s meanwhile."""
    drawn: list[int] = []
    drawing = asyncio.create_task(saturate(at, plan.tokens, drawn))
    await asyncio.sleep(HEAD_START_SECONDS)
    drawn.clear()
    began = time.monotonic()
    waits = await people(at, plan)
    seconds = time.monotonic() - began
    drawing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await drawing
    return waits, sum(drawn) / seconds


async def measure(plan: Plan, overrides: Sequence[str]) -> dict[str, object]:
    """All figures of one run."""
    async with house(overrides) as at:
        say("warming up")
        await people(at, Plan(plan.streams, 2, 1, plan.tokens, 0))
        await asyncio.sleep(LINGER_SECONDS)
        engines, samples = [], []
        for _ in range(plan.rounds):
            engines.append(await engine_rate(at, plan))
            samples.append(await drawn_rate(at, plan))
            say(f"nobody there: bare engine {engines[-1]:.0f} token/s, samples {samples[-1]:.0f}")
        alone, shared = Waits(), Waits()
        rates: list[float] = []
        for number in range(plan.rounds):
            alone.add(await people(at, plan))
            waits, rate = await beside(at, plan)
            shared.add(waits)
            rates.append(rate)
            say(
                f"round {number + 1}: {len(alone.later)} first tokens alone, {len(shared.later)} beside samples"
            )
    return figures(plan, alone, shared) | {
        "sampler_tok_s_beside": round(mean(rates), 1), "engine_tok_s": round(mean(engines), 1),
        "sampler_tok_s": round(mean(samples), 1), "sampler_share": round(mean(samples) / mean(engines), 3),
        "cores": len(os.sched_getaffinity(0)),
    }  # fmt: skip


def figures(plan: Plan, alone: Waits, shared: Waits) -> dict[str, object]:
    """First-token percentiles, ms, while all streams run, the ratio of the 99th ones, and what people met who arrived."""
    told: dict[str, object] = {"streams": plan.streams}
    for name, waits in (("alone", alone), ("beside", shared)):
        told[f"first_tokens_{name}"] = len(waits.later)
        for share in (50, 99):
            told[f"first_token_{name}_p{share}_ms"] = round(1000 * percentile(waits.later, share / 100), 1)
        told[f"arriving_{name}_p50_ms"] = round(1000 * percentile(waits.arriving, 0.5), 1)
        told[f"arriving_{name}_worst_ms"] = round(1000 * max(waits.arriving), 1)
    told["p99_ratio"] = round(percentile(shared.later, 0.99) / percentile(alone.later, 0.99), 3)
    return told


def say(text: str) -> None:
    """Progress, to stderr."""
    print(f"fairness: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--streams", type=int, default=8, help="people at once")
    parser.add_argument("--seconds", type=float, default=30, help="length of one phase with people")
    parser.add_argument("--rounds", type=int, default=2, help="how often each measurement is taken, in turns")
    parser.add_argument("--tokens", type=int, default=32, help="longest answer and sample")
    parser.add_argument("--samples", type=int, default=96, help="samples drawn with nobody there")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change a setting"
    )
    asked_for = parser.parse_args()
    plan = Plan(asked_for.streams, asked_for.seconds, asked_for.rounds, asked_for.tokens, asked_for.samples)
    print(json.dumps(asyncio.run(measure(plan, asked_for.set))))


if __name__ == "__main__":
    main()

"""How fast tokens come, side by side in one run: `python -m benchmarks.serving`; JSON last on stdout.

Ways to the model, each a process of its own, started one after the other and then measured in turns, so that a
machine whose speed wanders slows them all alike: the bare asynchronous engine with LoRA off (`base`; `defaults`: as
vLLM compiles it), an adapter on vLLM's stock operations (`stock_lora`), on our plugin (`plugin_lora`; its rows without
an adapter `plugin_base`; base and two adapters mixed `plugin_mixed`), our server over gRPC with that adapter (`grpc`),
and vLLM's OpenAI server with our plugin and that adapter (`vllm_serve`). Figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.serving_adapters import publish_adapters
from benchmarks.serving_report import aims, ratios, table

DOORS = ("base", "stock", "plugin", "grpc", "openai", "defaults")
STILL_SECONDS = 1.0
"""Before each turn, so that an engine with the cores to itself again has noticed (`serving.vllm_plugin.neighbours`)."""
Rounds = dict[tuple[str, int], list[dict[str, float]]]
"""(mode, streams) → the figures of each round."""


@dataclass(frozen=True)
class Child:
    """A door in its process. modes: what it can measure."""

    process: asyncio.subprocess.Process
    modes: tuple[str, ...]

    async def measure(self, mode: str, streams: int, tokens: int) -> dict[str, float]:
        """Figures of one measurement."""
        assert self.process.stdin
        order = {"mode": mode, "streams": streams, "tokens": tokens}
        self.process.stdin.write(f"{json.dumps(order)}\n".encode())
        return await hear(self.process)


async def hear(process: asyncio.subprocess.Process) -> Any:
    """The next line of a child, from JSON. Raises RuntimeError when it has died."""
    assert process.stdout
    if not (line := await process.stdout.readline()):
        raise RuntimeError(f"a process that was to be measured ended with {await process.wait()}; see above")
    return json.loads(line)


@contextlib.asynccontextmanager
async def child(name: str, registry: Path) -> AsyncIterator[Child]:
    """Start a door and wait until it can be measured; ended with its input."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.serving_child", name, str(registry),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin
    try:
        yield Child(process, tuple(await hear(process)))
    finally:
        process.stdin.close()
        await process.wait()


async def run(asked: argparse.Namespace) -> Rounds:
    """Start all doors, warm each up, then measure in turns."""
    rounds: Rounds = defaultdict(list)
    async with contextlib.AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="heliotrope-benchmark-")))
        publish_adapters(root / "registry")
        opened: list[Child] = []
        for name in asked.doors:
            print(f"starting {name}", file=sys.stderr, flush=True)
            opened.append(await stack.enter_async_context(child(name, root / "registry")))
            for mode in opened[-1].modes:
                await opened[-1].measure(mode, 4, 8)
        turns = [
            (n, one, mode)
            for n in asked.streams
            for _ in range(asked.rounds)
            for one in opened
            for mode in one.modes
        ]
        for streams, one, mode in turns:
            await asyncio.sleep(STILL_SECONDS)
            figures = await one.measure(mode, streams, asked.tokens)
            rounds[mode, streams].append(figures)
            print(f"{streams:3} {mode:13} {figures['tok_s']:7.1f} token/s", file=sys.stderr, flush=True)
    return rounds


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=(__doc__ or "").partition(";")[0]
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32], help="concurrent streams")
    parser.add_argument("--tokens", type=int, default=32, help="most tokens of an answer")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each; medians are reported")
    parser.add_argument(
        "--doors", nargs="+", choices=DOORS, default=list(DOORS), help="which ways to measure"
    )
    return parser.parse_args(given)


def summary(rounds: Rounds) -> dict[str, dict[str, float]]:
    """{streams: {"<mode>_<figure>": median over the rounds}}."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for (mode, streams), figures in rounds.items():
        for key in figures[0]:
            found[str(streams)][f"{mode}_{key}"] = round(median(one[key] for one in figures), 1)
    return dict(found)


def main() -> None:
    """Measure, print the table and the aims to stderr, and the JSON."""
    asked = arguments()
    rounds = asyncio.run(run(asked))
    streams = summary(rounds)
    print(f"{table(streams)}\n\n{aims(rounds)}", file=sys.stderr)
    print(
        json.dumps(
            {"streams": streams, "tokens": asked.tokens, "rounds": asked.rounds, "ratios": ratios(rounds)}
        )
    )


if __name__ == "__main__":
    main()

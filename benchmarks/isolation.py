"""The isolation matrix: sentinels and base in every combination in one batch, against what each says alone.

    python -m benchmarks.isolation

In float32 every answer must be token for token the one given alone. In bfloat16 rounding depends on the batch, so a
near tie may fall otherwise: no answer may hold another policy's word, and log-probabilities stay within 0.35 nats.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.isolation_matrix import Matrix, Row, everything
from benchmarks.sentinels import WORDS, Sentinel, sentinels
from heliotrope.chat import ChatFormat, Message
from heliotrope.config import load
from heliotrope.registry import Registry
from serving.engine import Adapter
from serving.engine_vllm import EngineSettings, VllmEngine
from serving.slots import SLOTS, adapter_of
from tests.loop.real_adapters import Trainer, stage

BFLOAT16_NATS = 0.35
PREFIX = 300
"""Tokens at least that the prompts with a shared beginning share: more than two blocks of the prefix cache."""


def prompts(chat: ChatFormat) -> list[list[int]]:
    """Two short prompts, then two that share a long beginning."""
    short = ["Name three fruits.", "Why is the sky blue?"]
    story = "The old lighthouse keeper counted the ships that passed in the night and wrote them down. "
    while len(chat.response_ids(story)) < PREFIX:
        story += story
    asks = [*short, story + "How many ships were there?", story + "Who wrote them down?"]
    return [chat.prompt_ids([Message("user", ask)]) for ask in asks]


def adapters(registry: Registry, forced: Sequence[Sentinel]) -> tuple[list[Adapter], dict[str, int]]:
    """The sentinels as published versions, and each one's word by its name in the engine."""
    made = [adapter_of(registry.publish(stage(one.tensors))) for one in forced]
    return made, {adapter.name: one.token for adapter, one in zip(made, forced, strict=True)}


async def run(
    dtype: str, model: Path, chat: ChatFormat, forced: Sequence[Sentinel], length: int
) -> list[Row]:
    """All scenarios on one engine of that dtype."""
    engine = VllmEngine(EngineSettings(model, tuple(sorted(chat.eos_ids)), dtype=dtype, max_model_len=1024))
    with tempfile.TemporaryDirectory(prefix="heliotrope-isolation-") as folder:
        published, words = adapters(Registry(Path(folder)), forced)
        matrix = Matrix(engine, words, prompts(chat), length)
        await engine.start()
        try:
            await everything(matrix, published, prefixed=(2, 3, 2), whole=True)
        finally:
            await engine.stop()
    return matrix.rows


def table(rows: dict[str, list[Row]]) -> str:
    """For people: one line a scenario and dtype."""
    lines = [
        "| dtype | scenario | batches | answers | token for token | foreign words | largest Δ log-p, nats |",
        "|---|---|---|---|---|---|---|",
    ]
    for dtype, scenarios in rows.items():
        for row in scenarios:
            same = f"{100 * row.equal / row.answers:.1f} %"
            lines.append(
                f"| {dtype} | {row.scenario} | {row.batches} | {row.answers} | {same} | {row.foreign} | {row.gap:.2g} |"
            )
    return "\n".join(lines)


def holds(dtype: str, row: Row) -> bool:
    """Whether a scenario shows no leak."""
    return not row.foreign and (row.gap <= BFLOAT16_NATS if dtype == "bfloat16" else row.equal == row.answers)


def main() -> int:
    """0 when isolation holds in every scenario."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.isolation", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--dtype", nargs="+", default=["float32", "bfloat16"], choices=("float32", "bfloat16")
    )
    parser.add_argument("--tokens", type=int, default=8, help="tokens of an answer (default 8)")
    parser.add_argument(
        "--adapters", type=int, default=SLOTS, help=f"sentinels, 2 to {len(WORDS)} (default 6)"
    )
    asked = parser.parse_args()
    model = load().model.folder
    chat = ChatFormat.load(model)
    forced = sentinels(model, Trainer(model), chat, asked.adapters)
    found: dict[str, list[Row]] = {}
    for dtype in asked.dtype:
        began = time.monotonic()
        found[dtype] = asyncio.run(run(dtype, model, chat, forced, asked.tokens))
        print(f"{dtype}: {time.monotonic() - began:.0f} s\n{table(found)}", file=sys.stderr, flush=True)
    good = all(holds(dtype, row) for dtype, rows in found.items() for row in rows)
    print(
        json.dumps({"holds": good, "rows": {d: [asdict(row) for row in rows] for d, rows in found.items()}})
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

"""A scripted engine, a real registry and a swapper between them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from benchmarks.scripted_engine import ScriptedEngine, logprob
from heliotrope.registry import Manifest, PolicyVersion, Registry
from serving.behaviour import Limits
from serving.engine import Adapter, Piece, Sampling
from serving.swap import Swapper
from tests.heliotrope.small_adapters import stage

LIMITS = Limits(min_prompts=2, min_tokens=6)
TEXTS = ([5, 6, 7, 8, 9], [5, 6, 11, 12, 13])


async def until(settled: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not settled():
            await asyncio.sleep(0)


def record(adapter: Adapter, bent: float = 0.0) -> object:
    """What the scripted engine really says of TEXTS[2:], plus `bent` nats."""
    base = [[logprob(t, None) for t in text[2:]] for text in TEXTS]
    own = [[logprob(t, adapter) + bent for t in text[2:]] for text in TEXTS]
    return [
        {"token_ids": text, "start": 2, "own": o, "parent": b, "base": b}
        for text, o, b in zip(TEXTS, own, base, strict=True)
    ]


class World:
    def __init__(self, root: Path) -> None:
        self.engine = ScriptedEngine()
        self.registry = Registry(root)
        self.swapper = Swapper(self.engine, self.registry, limits=LIMITS)

    def publish(
        self, fill: float, bent: float = 0.0, shadow: bool = False, dtype: str = "float32"
    ) -> PolicyVersion:
        """The scripted engine's words follow the digest, so the record is made once the weights are known."""

        def write(folder: Path) -> Manifest:
            sealed = stage(fill=fill)(folder)
            digest = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
            items = record(Adapter("", digest, folder), bent)
            (folder / "behaviour.json").write_text(json.dumps({"dtype": dtype, "items": items}))
            return sealed

        return self.registry.publish_shadow(write) if shadow else self.registry.publish(write)

    async def answer(self, adapter: Adapter | None, out: list[Piece]) -> None:
        with self.swapper.using(adapter):
            async for piece in self.engine.generate(
                f"r{len(self.engine.calls)}", [1, 2], Sampling(1.0, 64), adapter
            ):
                out.append(piece)

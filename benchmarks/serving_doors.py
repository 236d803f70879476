"""The ways to the model that `benchmarks.serving` compares. Each opens one engine and answers the same prompts.

Base and adapters ask with the same token ids: the default system prompt and one of the simulated people's prompts.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving_figures import Door, Say
from heliotrope.chat import ChatFormat, Message
from heliotrope.config import load
from heliotrope.registry import Registry
from heliotrope.simulate.prompts import asked
from serving.engine import Adapter, Sampling
from serving.engine_vllm import EngineSettings, VllmEngine

TEMPERATURE = 0.8


class StockEngine(VllmEngine):
    """vLLM's own operations in place of ours: what serving refuses to run. Nothing is checked, nothing sped up."""

    async def _check_lora_ops(self) -> None:
        """The comparison wants what serving refuses."""

    def _arguments(self) -> Any:
        os.environ["VLLM_PLUGINS"] = ""
        return super()._arguments()


class BareEngine(StockEngine):
    """LoRA off. defaults: vLLM's own choice of compilation."""

    defaults = False

    def _arguments(self) -> Any:
        arguments = super()._arguments()
        arguments.enable_lora, arguments.lora_target_modules = False, None
        arguments.enforce_eager = not self.defaults
        return arguments


class DefaultEngine(BareEngine):
    """LoRA off, compiled."""

    defaults = True


@dataclass(frozen=True)
class Stage:
    """What all doors share: the model, its chat format, and a registry with two adapters of noise."""

    model: Path
    chat: ChatFormat
    registry: Registry
    system: str

    @classmethod
    def open(cls, registry: Path) -> Stage:
        """With the default model, which must be there."""
        model = load().model
        chat = ChatFormat.load(model.folder, model.system_prompt)
        return cls(model.folder, chat, Registry(registry), model.system_prompt)

    def settings(self) -> EngineSettings:
        """As `serving.build` makes them from the default configuration."""
        engine, model = load().engine, load().model
        eos = tuple(sorted(self.chat.eos_ids))
        return EngineSettings(
            self.model,
            eos,
            engine.dtype,
            model.max_context,
            engine.max_streams,
            kv_cache_gib=engine.kv_cache_gib,
        )

    def adapters(self) -> list[Adapter]:
        """The two adapters."""
        versions = [self.registry.read(number) for number in self.registry.versions()]
        return [Adapter(v.name, v.digest, v.path) for v in versions]

    def text(self, number: int) -> str:
        """Prompt of a stream; neighbours differ, and no prompt comes twice within a measurement of up to 300."""
        return asked()[number % len(asked())]


async def engine_door(stage: Stage, kind: type[VllmEngine], loras: int) -> Door:
    """The asynchronous engine without a server. loras: adapters to load, 0 to 2."""
    engine = kind(stage.settings())
    await engine.start()
    loaded = stage.adapters()[:loras]
    for adapter in loaded:
        await engine.load(adapter)
    numbers = itertools.count()

    def saying(choices: list[Adapter | None]) -> Say:
        async def say(number: int, tokens: int) -> AsyncIterator[int]:
            ids = stage.chat.prompt_ids([Message("user", stage.text(number))])
            adapter, sampling = choices[number % len(choices)], Sampling(TEMPERATURE, tokens)
            async with aclosing(engine.generate(f"b{next(numbers)}", ids, sampling, adapter)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    yield len(piece.token_ids)

        return say

    if kind is VllmEngine:
        modes = {"plugin_lora": [loaded[0]], "plugin_base": [None], "plugin_mixed": [None, *loaded]}
    else:
        modes = {
            {"BareEngine": "base", "DefaultEngine": "defaults"}.get(kind.__name__, "stock_lora"): [
                *loaded,
                None,
            ][:1]
        }
    return Door({name: saying(choices) for name, choices in modes.items()}, engine.stop)


async def open_door(name: str, stage: Stage) -> Door:
    """The door of that name. Raises KeyError for an unknown one."""
    from benchmarks.serving_servers import grpc_door, openai_door

    doors = {
        "base": lambda: engine_door(stage, BareEngine, 0),
        "defaults": lambda: engine_door(stage, DefaultEngine, 0),
        "stock": lambda: engine_door(stage, StockEngine, 1),
        "plugin": lambda: engine_door(stage, VllmEngine, 2),
        "grpc": lambda: grpc_door(stage),
        "openai": lambda: openai_door(stage),
    }
    return await doors[name]()

"""What goes wrong between file and slot is found by what really lies in the slot; the version before serves on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.isolation_matrix import Matrix
from heliotrope.registry import PolicyVersion, Registry
from serving.behaviour import Item, Limits
from serving.engine import Adapter
from serving.engine_vllm import VllmEngine
from serving.slots import adapter_of
from serving.swap import SwapError, Swapper
from tests.loop.real_adapters import noise, stage, write_adapter

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

ANY = Limits(min_prompts=1, min_tokens=4, float32=100.0)
RECORD = [Item((5, 6, 7, 8, 9), 1, *[(-1.0,) * 4] * 3)]
SPOILT = "model.layers.17.mlp.up_proj.lora_B"

Meddle = Callable[[Adapter], Adapter]


class Meddled:
    """The real engine, where `meddle` decides what goes into the slot in place of what was asked for."""

    def __init__(self, engine: VllmEngine, meddle: Meddle) -> None:
        self._engine, self._meddle = engine, meddle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def load(self, adapter: Adapter) -> None:
        await self._engine.load(self._meddle(adapter))


def one_zeroed(model_dir: Path) -> dict[str, torch.Tensor]:
    tensors = noise(model_dir, 2, strength=0.02)
    key = f"base_model.model.{SPOILT}.weight"
    return tensors | {key: torch.zeros_like(tensors[key])}


def loads_from(folder: Path, tensors: dict[str, torch.Tensor]) -> Meddle:
    """Other tensors get into the slot; the version's folder stays as it is."""
    folder.mkdir()
    write_adapter(folder, tensors)
    return lambda adapter: replace(adapter, path=folder)


def swaps_the_file(tensors: dict[str, torch.Tensor]) -> Meddle:
    """The file is another one by the time it is loaded, and stays so."""

    def meddle(adapter: Adapter) -> Adapter:
        write_adapter(adapter.path, tensors)
        return adapter

    return meddle


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("a swapped file", "has been swapped: its sha256 is"),
        ("one zeroed matrix", f"1 matrices in the slot are not the file's; {SPOILT} is missing"),
        ("a half-loaded adapter", "210 matrices in the slot are not the file's; .* is missing"),
        ("a reused name", "420 matrices in the slot are not the file's; .* is different"),
    ],
)
async def test_each_fault_is_caught_and_the_old_version_serves_on(
    engine: VllmEngine, model_dir: Path, tmp_path: Path, fault: str, says: str
) -> None:
    registry = Registry(tmp_path / "registry")
    old, _ = (registry.publish(stage(noise(model_dir, seed, strength=0.02), RECORD)) for seed in (1, 2))
    whole = noise(model_dir, 2, strength=0.02)
    half = {name: tensor for name, tensor in whole.items() if int(name.split(".")[4]) < 15}
    swapper = Swapper(engine, registry, limits=ANY)
    await swapper.make_live(1)
    before = await said(engine, old)
    match fault:
        case "a swapped file":
            meddle = swaps_the_file(one_zeroed(model_dir))
        case "one zeroed matrix":
            meddle = loads_from(tmp_path / "other", one_zeroed(model_dir))
        case "a half-loaded adapter":
            meddle = loads_from(tmp_path / "other", half)
        case _:
            meddle = loads_from(tmp_path / "other", noise(model_dir, 1, strength=0.02))
    swapper.engine = Meddled(engine, meddle)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(SwapError, match=says) as caught:
        await swapper.make_live(2)
    assert caught.value.step == "identity"
    assert swapper.live == adapter_of(old) and list(engine._residents) == [adapter_of(old).name]
    assert await said(engine, old) == before
    swapper.engine = engine
    await swapper.make_live(0)
    await swapper._drains[adapter_of(old).name]


async def said(engine: VllmEngine, version: PolicyVersion) -> tuple[int, ...]:
    return (await Matrix(engine, {}, [[1, 4093, 198, 5]], length=4).say((adapter_of(version), 0))).tokens

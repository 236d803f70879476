"""An adapter is served only when it speaks as its trainer recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scripted_engine import ScriptedEngine
from heliotrope.registry import Manifest
from serving.behaviour import Limits
from serving.swap import SwapError
from tests.heliotrope.small_adapters import stage
from tests.serving.swap_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_an_adapter_that_speaks_like_base_is_refused(world: World) -> None:
    class Deaf(ScriptedEngine):
        async def score(self, token_ids, adapter):
            return await super().score(token_ids, None)

    world.engine = world.swapper.engine = Deaf()
    world.engine.dtype = "bfloat16"
    world.swapper.limits = Limits(min_prompts=2, min_tokens=6, bfloat16=9.0)
    world.publish(0.1)
    with pytest.raises(SwapError, match="speaks like the base model"):
        await world.swapper.make_live(1)


async def test_a_record_in_bfloat16_is_as_far_off_as_its_precision_allows(world: World) -> None:
    for fill, dtype in ((0.1, "float32"), (0.2, "bfloat16")):
        world.publish(fill, bent=0.05, dtype=dtype)
    with pytest.raises(SwapError, match="over the 0.001 allowed between float32 there and float32 here"):
        await world.swapper.make_live(1)
    await world.swapper.make_live(2)
    world.publish(0.3, bent=0.15, dtype="bfloat16")
    with pytest.raises(SwapError, match="over the 0.1 allowed between bfloat16 there and float32 here"):
        await world.swapper.make_live(3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "has no behaviour.json"),
        ("{", "not a record"),
        ('{"items": []}', "forces 0 tokens over 0 prompts; record at least 6 tokens over 2 prompts"),
        (
            '{"items": [{"token_ids": [1, 2], "start": 1, "own": [0.5], "parent": [-1], "base": [-1]}]}',
            "positive",
        ),
        (
            '{"items": [{"token_ids": [1, 2], "start": 0, "own": [-1], "parent": [-1], "base": [-1]}]}',
            "start 0",
        ),
    ],
)
async def test_a_version_without_a_usable_record_is_refused(
    world: World, text: str | None, says: str
) -> None:
    def write(folder: Path) -> Manifest:
        sealed = stage()(folder)
        if text is not None:
            (folder / "behaviour.json").write_text(text)
        return sealed

    world.registry.publish(write)
    with pytest.raises(SwapError, match=says) as caught:
        await world.swapper.make_live(1)
    assert caught.value.step == "verify"

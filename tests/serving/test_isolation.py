"""The start-up self-check against engines that keep adapters apart, leak, or ignore them; and when it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from serving.engine import Adapter, EngineError, Piece, Sampling
from serving.isolation import PROMPTS, check_isolation, linear_shapes
from tests.loop.real_adapters import shapes

CONFIG = (
    '{"hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2, "num_key_value_heads": 1, '
    '"num_hidden_layers": 2}'
)
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Voices:
    """An engine in which every adapter has one log-probability. leak: what base says while others are asked too."""

    dtype = "float32"

    def __init__(self, leak: float = 0.0, deaf: bool = False) -> None:
        self.leak, self.deaf, self.asked = leak, deaf, 0
        self.resident: list[str] = []

    async def load(self, adapter: Adapter) -> None:
        assert (adapter.path / "adapter_model.safetensors").is_file()
        self.resident.append(adapter.name)

    async def unload(self, adapter: Adapter) -> None:
        self.resident.remove(adapter.name)

    def _voice(self, adapter: Adapter | None) -> float:
        if adapter is None:
            return -1.0 - (self.leak if self.asked <= 3 * len(PROMPTS) else 0.0)
        return -1.0 if self.deaf else -2.0 - self.resident.index(adapter.name)

    async def score(self, token_ids: Sequence[int], adapter: Adapter | None) -> list[float]:
        self.asked += 1
        return [self._voice(adapter)] * (len(token_ids) - 1)

    async def generate(
        self, request_id: str, prompt_ids: Sequence[int], sampling: Sampling, adapter: Adapter | None
    ) -> AsyncIterator[Piece]:
        yield Piece((5,), (self._voice(adapter),), "length")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(CONFIG)
    return tmp_path


async def test_an_engine_that_keeps_adapters_apart_passes_and_holds_none_after(model: Path) -> None:
    engine = Voices()
    await check_isolation(engine, model, TARGETS)  # pyright: ignore[reportArgumentType]
    assert engine.resident == []


async def test_an_engine_that_leaks_is_refused_and_holds_none_after(model: Path) -> None:
    engine = Voices(leak=0.5)
    with pytest.raises(EngineError, match=r"0\.5000 nats a token away from what they say alone.*KNOWN_VLLM"):
        await check_isolation(engine, model, TARGETS)  # pyright: ignore[reportArgumentType]
    assert engine.resident == []


async def test_an_engine_that_ignores_adapters_proves_nothing_and_is_refused(model: Path) -> None:
    with pytest.raises(EngineError, match=r"different ones are 0\.0000 apart"):
        await check_isolation(Voices(deaf=True), model, TARGETS)  # pyright: ignore[reportArgumentType]


def test_shapes_follow_grouped_query_attention(model: Path) -> None:
    """hidden 8 in 2 heads of 4; one head of keys and values."""
    found = linear_shapes(model, TARGETS)
    assert found["model.layers.1.self_attn.k_proj"] == (4, 8)
    assert found["model.layers.0.mlp.down_proj"] == (8, 12) and len(found) == 2 * 7
    assert found == shapes(model)
    assert set(linear_shapes(model, ("q_proj",))) == {f"model.layers.{i}.self_attn.q_proj" for i in range(2)}

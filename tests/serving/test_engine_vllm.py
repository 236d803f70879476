"""What `VllmEngine` makes of what vLLM says, without starting it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serving.engine import EngineError, Piece, Sampling
from serving.engine_vllm import EngineSettings, VllmEngine
from serving.vllm_plugin import WRAPPER


class Elsewhere(VllmEngine):
    """An engine whose workers answer with these LoRA operations."""

    def __init__(self, *active: str) -> None:
        super().__init__(EngineSettings(Path("nowhere"), (2,)))
        self.active = list(active)

    async def _rpc(self, method: str, *args: object) -> list[list[str]]:
        assert method == "heliotrope_lora_ops"
        return [self.active]


async def test_an_engine_on_the_stock_operations_does_not_start() -> None:
    stock = "vllm.lora.punica_wrapper.punica_cpu.PunicaWrapperCPU"
    with pytest.raises(EngineError, match=r"PunicaWrapperCPU.*adapter's weights.*pip install -e"):
        await Elsewhere(stock)._check_lora_ops()
    with pytest.raises(EngineError):
        await Elsewhere(WRAPPER, stock)._check_lora_ops()
    assert await Elsewhere(WRAPPER)._check_lora_ops() is None


class Saying(VllmEngine):
    """An engine that gives these outputs, each (token ids, finish reason), whatever it is asked."""

    def __init__(self, *outputs: tuple[list[int], str | None]) -> None:
        super().__init__(EngineSettings(Path("nowhere"), (2,)))
        self.said, self.params = outputs, []

    async def _outputs(
        self, request_id: str, ids: Any, params: Any, adapter: Any
    ) -> AsyncGenerator[Any, None]:
        self.params.append(params)
        for tokens, reason in self.said:
            logprobs = [
                {t: SimpleNamespace(logprob=-t / 10), 99: SimpleNamespace(logprob=-9.0)} for t in tokens
            ]
            out = SimpleNamespace(token_ids=tokens, logprobs=logprobs, finish_reason=reason)
            yield SimpleNamespace(outputs=[out])


async def test_a_piece_has_the_log_probability_of_each_token_that_was_drawn() -> None:
    pieces = [
        p async for p in Saying(([5, 6], None), ([2], "stop")).generate("r", [1], Sampling(1.0, 8), None)
    ]
    assert pieces == [Piece((5, 6), (-0.5, -0.6), None), Piece((2,), (-0.2,), "stop")]


async def test_nothing_but_temperature_and_length_reaches_vllm() -> None:
    engine = Saying(([2], "stop"))
    _ = [p async for p in engine.generate("r", [1], Sampling(0.7, 8), None)]
    [params] = engine.params
    assert (params.temperature, params.max_tokens, params.stop_token_ids, params.seed) == (0.7, 8, [2], None)
    assert (params.top_p, params.top_k, params.min_p, params.presence_penalty) == (1.0, 0, 0.0, 0.0)


async def test_a_response_that_the_engine_gave_up_is_an_error_and_not_an_end() -> None:
    stream = Saying(([5], None), ([], "abort")).generate("r7", [1], Sampling(1.0, 8), None)
    assert (await anext(stream)).token_ids == (5,)
    with pytest.raises(EngineError, match="ended r7 by itself .abort."):
        await anext(stream)

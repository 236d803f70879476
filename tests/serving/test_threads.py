"""Small operations run on one thread, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from serving.vllm_plugin.threads import FEW_ROWS, alone, one_thread, use_one_thread


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in vLLM's CPU worker: two threads, and torch's own switch does nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    yield
    torch._C.set_num_threads(before)


@pytest.mark.parametrize(("small", "threads"), [(True, 1), (False, 2)])
def test_what_is_small_has_one_thread(small: bool, threads: int) -> None:
    with one_thread(small):
        inside = torch.get_num_threads()
    assert (inside, torch.get_num_threads()) == (threads, 2)


def test_the_threads_come_back_after_an_error_and_from_within() -> None:
    with pytest.raises(ValueError), one_thread(True), one_thread(True):
        raise ValueError
    assert torch.get_num_threads() == 2


def noted(seen: list[int]) -> Any:
    """An operation that notes its threads."""

    def scaled(x: torch.Tensor, by: float = 1.0, *, plus: float = 0.0) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return x * by + plus

    return scaled


def test_an_operation_that_is_wrapped_gives_what_it_gave() -> None:
    seen: list[int] = []
    few, many = torch.ones(FEW_ROWS, 2), torch.ones(FEW_ROWS + 1, 2)
    assert torch.equal(alone(noted(seen))(few, 2.0, plus=1.0), 2 * few + 1)
    alone(noted(seen))(many)
    assert seen == [1, 2]


def test_norms_activations_and_rotary_embeddings_are_wrapped_and_nothing_else() -> None:
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.activation import SiluAndMul
    from vllm.model_executor.layers.layernorm import RMSNorm
    from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding

    with set_current_vllm_config(VllmConfig()):
        rotary = RotaryEmbedding(8, 8, 16, 10000.0, True, torch.float32)
        parts = torch.nn.ModuleList([RMSNorm(8), SiluAndMul(), rotary, torch.nn.Linear(2, 2)])
    seen: list[int] = []
    for part in parts:
        part._forward_method = noted(seen)  # pyright: ignore[reportArgumentType]
    use_one_thread(parts)
    for part in parts:
        part._forward_method(torch.ones(1, 8))  # pyright: ignore[reportCallIssue]
    assert seen == [1, 1, 1, 2]

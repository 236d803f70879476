"""Small operations run on one thread, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from serving.vllm_plugin.threads import FEW_ROWS, alone, few


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in vLLM's CPU worker: two threads, and torch's own switch does nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    yield
    torch._C.set_num_threads(before)


@pytest.mark.parametrize(("rows", "threads"), [(1, 1), (FEW_ROWS, 1), (FEW_ROWS + 1, 2)])
def test_few_rows_have_one_thread(rows: int, threads: int) -> None:
    with few(rows):
        inside = torch.get_num_threads()
    assert (inside, torch.get_num_threads()) == (threads, 2)


def test_the_threads_come_back_after_an_error_and_from_within() -> None:
    with pytest.raises(ValueError), few(1), few(2):
        raise ValueError
    assert torch.get_num_threads() == 2


def test_an_operation_that_is_wrapped_gives_what_it_gave() -> None:
    seen = []

    def scaled(x: torch.Tensor, by: float, *, plus: float) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return x * by + plus

    few_rows, many = torch.ones(3, 2), torch.ones(FEW_ROWS + 1, 2)
    assert torch.equal(alone(scaled)(few_rows, 2.0, plus=1.0), scaled(few_rows, 2.0, plus=1.0))
    alone(scaled)(many, 2.0, plus=1.0)
    assert seen == [1, 2, 2]

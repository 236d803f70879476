"""Small operations on one thread.

The engine's threads sleep between operations while others use the cores (`neighbours`), and two of them take some 0.1 ms
to meet: longer than one takes for a few rows of an adapter, a norm or an activation (docs/experiments.md).
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch

FEW_ROWS = 128
"""Of a norm, an activation or a rotary embedding."""
SMALL_PRODUCT = 2**23
"""Multiply-adds of an adapter in one layer: 0.2 ms of one core, about what several threads take to meet."""


class one_thread:
    """`with one_thread(small):` runs what is inside on one thread when it is small. Going there and back takes 0.3 µs.

    vLLM's CPU worker replaces `torch.set_num_threads` by a function that does nothing; the one behind it still works.
    """

    __slots__ = ("_small", "_threads")

    def __init__(self, small: bool) -> None:
        self._small, self._threads = small, 0

    def __enter__(self) -> None:
        if self._small:
            self._threads = torch.get_num_threads()
            torch._C.set_num_threads(1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads:
            torch._C.set_num_threads(self._threads)


def use_one_thread(model: torch.nn.Module) -> None:
    """Norms, activations and rotary embeddings of a vLLM model: their first argument has one row a token."""
    from vllm.model_executor.layers.activation import SiluAndMul
    from vllm.model_executor.layers.layernorm import RMSNorm
    from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding

    for module in model.modules():
        if isinstance(module, SiluAndMul | RMSNorm | RotaryEmbedding):
            module._forward_method = alone(module._forward_method)


def alone(forward: Any) -> Any:
    """The same operation, on one thread where its first argument has few rows."""

    def wrapped(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        with one_thread(x.shape[0] <= FEW_ROWS):
            return forward(x, *args, **kwargs)

    return wrapped

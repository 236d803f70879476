"""Small operations on one thread.

The engine's threads sleep between operations, since the learner shares the cores, and two of them take some 0.1 ms to
meet: longer than one takes for a few rows of an adapter, a norm or an activation (docs/experiments.md).
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch

FEW_ROWS = 128
"""With more of them both threads are the faster ones, waits included (they are even at 256)."""


class few:
    """`with few(rows):` runs what is inside on one thread when there are few rows. Going there and back takes 0.3 µs.

    vLLM's CPU worker replaces `torch.set_num_threads` by a function that does nothing; the one behind it still works.
    """

    __slots__ = ("_rows", "_threads")

    def __init__(self, rows: int) -> None:
        self._rows, self._threads = rows, 0

    def __enter__(self) -> None:
        if self._rows <= FEW_ROWS:
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
        with few(x.shape[0]):
            return forward(x, *args, **kwargs)

    return wrapped

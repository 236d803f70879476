"""Small numbers for worked arithmetic."""

from __future__ import annotations

from math import exp

import torch
from torch import Tensor


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def flags(*values: bool) -> Tensor:
    return torch.tensor(values)


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def gradient(of: Tensor) -> list[float]:
    assert of.grad is not None
    return of.grad.tolist()


def draw(*shape: int, seed: int = 7, wanted: bool = True) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_(wanted)

"""Which way the passes over activations are made."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from learner.kernels import compiled, plain
from learner.kernels.plain import Heads, Layout, Parts, Rotary, Tally

__all__ = ["Heads", "Layout", "Parts", "Rotary", "Tally", "passes"]


def passes(like: Tensor) -> ModuleType:
    """Compiled on a CPU, in the precisions that models are trained in."""
    fits = like.device.type == "cpu" and like.dtype in (torch.float32, torch.bfloat16)
    return compiled if fits else plain

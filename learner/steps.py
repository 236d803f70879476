"""What every training here shares: the schedule of the step size, and the optimiser."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def schedule(step: int, steps: int) -> float:
    """Factor of the learning rate: up over the first tenth of the steps, then down to a tenth, linearly."""
    warm = max(1, steps // 10)
    return step / warm if step <= warm else 1 - 0.9 * (step - warm) / max(1, steps - warm)


def optimiser(parameters: Sequence[nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
    """AdamW without weight decay: B = 0 is the base, and nothing else should pull there."""
    return torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)

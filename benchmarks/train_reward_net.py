"""The reward of a response: a linear head on what the base, bent by an adapter of its own, makes of it."""

from __future__ import annotations

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from learner.backbone import Backbone, States
from learner.prepared import pool
from learner.rows import Batch

REWARD = "reward"
"""The backbone's adapter that belongs to the reward model."""

PerResponse = Float[Tensor, "responses"]


class RewardNet:
    """r(x, y) = v . [state of y's last token, mean state of y] / sqrt(2 hidden). Fresh, it says 0 of everything.

    Dividing by the root of the width keeps one step of Adam from moving the reward by the width.
    """

    def __init__(self, backbone: Backbone, seed: int) -> None:
        self._backbone = backbone
        self._seed = seed
        self.head = nn.Parameter(torch.zeros(2 * backbone.hidden_size))
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._backbone.reset(REWARD, self._seed)
        with torch.no_grad():
            self.head.zero_()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained, in a fixed order."""
        return [self.head, *self._backbone.parameters(REWARD).values()]

    def rewards(self, batch: Batch, states: States) -> PerResponse:
        """The reward of each response of the batch, from the states that enter the first adapted layer."""
        outputs = self._backbone.upper(states, batch, REWARD)
        return pool(outputs, batch) @ self.head / sqrt(len(self.head))

"""The reward model's loss as a part of one optimiser step, for `benchmarks.train`: every pair alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from learner.backbone import Backbone
from learner.losses import bradley_terry
from learner.prepared import PreparedStore
from learner.reward_net import RewardNet
from learner.rows import Batch, Row

BatchLoss = Callable[[Batch], Tensor]


def reward_loss(backbone: Backbone, store: PreparedStore, net: RewardNet, rows: Sequence[Row]) -> BatchLoss:
    """Bradley-Terry over the rows of a step."""

    def loss(batch: Batch) -> Tensor:
        pairs = net.rewards(batch, store.states(backbone, batch)).view(-1, 2)
        return bradley_terry(pairs[:, 0], pairs[:, 1]).loss * len(batch.ids) / len(rows)

    return loss

"""The reward model's loss as a part of one optimiser step, for `benchmarks.train`: every pair alike."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from learner.backbone import Backbone, States
from learner.losses import bradley_terry
from learner.prepared import PreparedStore
from learner.reward_net import RewardNet
from learner.rows import Batch, Row
from learner.steps import Work, cut


def reward_works(
    backbone: Backbone, store: PreparedStore, net: RewardNet, rows: Sequence[Row], token_budget: int
) -> tuple[list[Work[None]], int]:
    """Bradley-Terry over the rows of a step, and how much of it goes side by side."""

    def work(batch: Batch, states: States) -> tuple[Tensor, None]:
        pairs = net.rewards(batch, states).view(-1, 2)
        return bradley_terry(pairs[:, 0], pairs[:, 1]).loss * len(batch.ids) / len(rows), None

    batches, workers = cut(rows, token_budget, backbone.device)
    return [partial(work, batch, store.states(backbone, batch)) for batch in batches], workers

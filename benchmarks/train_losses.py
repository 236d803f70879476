"""Reward, KTO and SFT as parts of one optimiser step, for `benchmarks.train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from learner.backbone import Backbone
from learner.dpo import ADAPTER
from learner.losses import bradley_terry, kto, reference_point, sft
from learner.prepared import PreparedStore, sum_by_response
from learner.reward_net import RewardNet
from learner.rows import Batch, Row, batches

BatchLoss = Callable[[Batch], Tensor]


def reward(backbone: Backbone, store: PreparedStore, net: RewardNet | None, rows: Sequence[Row]) -> BatchLoss:
    """Bradley-Terry, every pair alike."""
    assert net is not None

    def loss(batch: Batch) -> Tensor:
        pairs = net.rewards(batch, store.states(backbone, batch)).view(-1, 2)
        return bradley_terry(pairs[:, 0], pairs[:, 1]).loss * len(batch.ids) / len(rows)

    return loss


def thumbs(backbone: Backbone, store: PreparedStore, net: RewardNet | None, rows: Sequence[Row]) -> BatchLoss:
    """KTO on both responses as one thumb up and one down.

    The reference point is estimated as TRL does it, from each response of the step under another one's prompt.
    """
    del net
    moved = reference_point(_mismatched(backbone, rows))

    def loss(batch: Batch) -> Tensor:
        policy = sum_by_response(backbone.logprobs(batch, ADAPTER, store.states(backbone, batch)), batch)
        ups = torch.arange(len(policy), device=policy.device) % 2 == 0
        return kto(policy - store.reference(batch), ups, 0.1, moved).loss * len(batch.ids) / len(rows)

    return loss


def demonstrations(
    backbone: Backbone, store: PreparedStore, net: RewardNet | None, rows: Sequence[Row]
) -> BatchLoss:
    """Cross-entropy of the first response, every token of the step alike."""
    del net
    whole = sum(len(row.responses[0]) for row in rows)

    def loss(batch: Batch) -> Tensor:
        logprobs = sum_by_response(backbone.logprobs(batch, ADAPTER, store.states(backbone, batch)), batch)
        lengths = torch.bincount(batch.owners, minlength=batch.count)
        return sft(logprobs, lengths).loss * int(lengths.sum()) / whole

    return loss


@torch.no_grad()
def _mismatched(backbone: Backbone, rows: Sequence[Row]) -> Tensor:
    """log(policy / base) of each response, nats, where both responses of a row stand under the next row's prompt."""
    turned = [replace(row, prompt=rows[i - 1].prompt) for i, row in enumerate(rows)]
    found = []
    for batch in batches(turned, 2048):
        states = backbone.lower(batch)
        policy, base = (
            sum_by_response(backbone.logprobs(batch, who, states), batch) for who in (ADAPTER, None)
        )
        found.append(policy - base)
    return torch.cat(found)


LOSSES = {"reward": reward, "kto": thumbs, "sft": demonstrations}

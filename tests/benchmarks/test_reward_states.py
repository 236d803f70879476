"""Kept states of the reward benchmark: found again by what was said, whatever it is called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.reward_states import KeptStates
from learner.reward_net import REWARD
from learner.rows import Row, collate
from tests.learner.tiny_llama import tiny_backbone


def test_states_are_of_these_tokens_whatever_other_pairs_had_the_same_ids(tmp_path: Path) -> None:
    backbone = tiny_backbone(2, adapters=("policy", REWARD))
    first = Row("7", (1, 2, 3), ((4, 5), (6,)))
    KeptStates(tmp_path).prepare(backbone, [first])
    other = replace(first, responses=((9, 8), (7,)))
    again = KeptStates(tmp_path)
    again.prepare(backbone, [other, first])
    assert len(list(tmp_path.iterdir())) == 2, "and the first ones are not made again"
    for row in (first, other):
        batch = collate([row])
        said = backbone.lower(batch, REWARD).half().float()
        assert torch.equal(again.states(backbone, batch, REWARD)[: len(row)], said[: len(row)])

"""What the judge is shown of unseen votes."""

from __future__ import annotations

from dataclasses import replace

from learner.dpo import DpoSettings
from learner.evidence import Drawn, gather
from learner.prepared import PreparedStore
from learner.reward import RewardModel
from learner.reward_net import REWARD
from tests.learner.tiny_llama import pairs, tiny_backbone


def test_only_held_out_pairs_that_were_measured_are_counted() -> None:
    backbone, store = tiny_backbone(2, adapters=("policy", REWARD)), PreparedStore()
    decided = [replace(p, held_out=True) for p in pairs(6)]
    too_long = replace(decided[0], id="long", chosen_ids=decided[0].chosen_ids * 20)
    tie = replace(decided[1], id="tie", tie=True)
    seen = gather(
        backbone,
        store,
        RewardModel(backbone, store),
        [*decided, too_long, tie],
        Drawn([], [], 1.0),
        DpoSettings(max_tokens=64),
    )
    assert (seen.held_out_pairs, seen.held_out_accuracy) == (6, 0.5)

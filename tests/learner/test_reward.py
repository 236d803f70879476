"""The reward model on a tiny base: it predicts before it learns, learns a taste, and a tie pulls together."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from pathlib import Path

import pytest
import torch

from heliotrope.errors import FailedPrecondition
from learner.examples import rows_of
from learner.prepared import PreparedStore
from learner.reward import RewardModel, RewardSettings, minimise
from tests.learner.tiny_llama import pairs, tiny_backbone

SETTINGS = RewardSettings(ridge=1.0, person_share=1.0)


def model(settings: RewardSettings = SETTINGS) -> RewardModel:
    return RewardModel(tiny_backbone(2), PreparedStore(), settings)


def test_every_preference_is_predicted_before_it_is_learned_from():
    reward = model()
    examples = pairs(60)
    first = reward.learn(examples[:20], now=0)
    assert [p.margin for p in first] == [0.0] * 20  # knew nothing: no opinion, whatever it knows now
    assert [p.loss for p in first] == pytest.approx([log(2)] * 20)
    assert reward.accuracy() == 0.5
    expected = reward.margins(examples[20:])
    second = reward.learn(examples, now=0)
    assert [p.id for p in second] == [p.id for p in examples[20:]]  # the known 20 are passed over
    assert [p.margin for p in second] == pytest.approx(expected)
    assert {p.seen for p in second} == {20}
    assert [p.id for p in reward.predictions] == [p.id for p in examples]
    accuracy = reward.accuracy(last=40)
    assert accuracy is not None
    assert accuracy > 0.7


def test_replay_keeps_what_was_learned_first():
    reward = model()
    examples = pairs(80)
    for start in range(0, 80, 10):
        reward.learn(examples[start : start + 10], now=0)
    at_once = model()
    at_once.learn(examples, now=0)
    # refitting to all of them forgets nothing and does not depend on the order
    assert reward.margins(examples[:10]) == pytest.approx(at_once.margins(examples[:10]), abs=1e-3)


def test_a_tie_pulls_two_rewards_together():
    decided = pairs(30)
    reward, tied = model(), model()
    reward.learn(decided, now=0)
    tied.learn([replace(p, tie=True) for p in decided], now=0)
    assert sum(reward.margins(decided)) / 30 > 1
    assert max(map(abs, tied.margins(decided))) < 1e-6
    assert tied.predictions == []  # there was no side to predict


def test_held_out_preferences_teach_nothing():
    reward = model()
    assert reward.learn([replace(p, held_out=True) for p in pairs(10)], now=0) == []
    assert reward.margins(pairs(3)) == [0.0] * 3
    assert reward.accuracy() is None


def test_scores_order_responses_and_survive_saving(tmp_path: Path):
    reward = model()
    reward.learn(pairs(60), now=0)
    fresh = pairs(20, seed=9)
    scores = reward.score(rows_of(fresh, 99)[0])
    assert sum(chosen > rejected for chosen, rejected in scores.values()) >= 16
    reward.save(tmp_path / "head.safetensors")
    other = model()
    other.load(tmp_path / "head.safetensors")
    assert other.score(rows_of(fresh, 99)[0]) == scores
    with pytest.raises(FailedPrecondition, match="empty"):
        reward.margins([replace(fresh[0], id="bad", chosen_ids=())])


def test_the_fit_by_hand():
    # one feature, one pair with difference 1: the best w solves sigmoid(-w) = ridge * w
    one = torch.ones(1, 1, dtype=torch.float64)
    share, none = torch.ones(1).double(), torch.zeros(1).double()
    head = minimise(one, share, none, torch.tensor([False]), ridge=0.5).item()
    assert 1 / (1 + exp(head)) == pytest.approx(0.5 * head, abs=1e-6)
    assert head == pytest.approx(0.6750, abs=2e-4)  # 1 / (1 + e^0.675) = 0.3374 = 0.5 * 0.6749
    # a margin of 1 asks for more: sigmoid(1 - w) = 0.5 w
    head = minimise(one, share, share, torch.tensor([False]), ridge=0.5).item()
    assert 1 / (1 + exp(head - 1)) == pytest.approx(0.5 * head, abs=1e-6)
    assert head > 0.9


def test_what_is_taken_back_is_forgotten():
    examples = pairs(12)
    kept, taken_back = examples[:8], examples[8:]
    backbone, store = tiny_backbone(2), PreparedStore()
    changed, never = (RewardModel(backbone, store) for _ in range(2))
    changed.learn([*kept, *taken_back], now=0)
    changed.keep(kept, now=0)
    never.learn(kept, now=0)
    assert changed.margins(taken_back) == pytest.approx(never.margins(taken_back), abs=1e-5)
    changed.keep([], now=0)
    assert changed.margins(kept) == [0.0] * 8

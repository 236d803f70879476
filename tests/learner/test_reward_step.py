"""A step of a reward model that has opinions, against plain arithmetic: every setting reaches its loss.

Each response is read alone, the loss written out in torch, and its gradient compared with the one in AdamW's
mean of gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from feedback.examples import Example, Preference, Thumb, TokenIds
from learner.prepared import PreparedStore
from learner.reward import RewardModel
from learner.reward_loss import Judgement
from learner.reward_net import REWARD
from learner.reward_steps import RewardSettings
from learner.rows import Row, collate
from tests.learner.tiny_llama import pairs, tiny_backbone

SETTINGS = RewardSettings(learning_rate=1e-2, replay=0.0, centring=0.0, person_share=1.0, max_tokens=99)
DECAY = 0.9
"""Of AdamW's mean of the gradients."""


def thumb(p: Preference, up: bool) -> Thumb:
    common: dict[str, Any] = {field.name: getattr(p, field.name) for field in fields(Example)}
    common["id"] = p.id + "+"
    return Thumb(**common, response_ids=p.chosen_ids if up else p.rejected_ids, up=up)


KNOWN: list[Judgement] = [*(thumb(p, up=i < 4) for i, p in enumerate(pairs(5, seed=5))), *pairs(3, seed=5)]
"""Four thumbs up, one down, three comparisons: a step."""


class Net:
    """A reward model that has learned one step."""

    def __init__(self, **changed: float) -> None:
        self._backbone = tiny_backbone(2, adapters=("policy", REWARD))
        self._base = tiny_backbone(2)
        self.model = RewardModel(self._backbone, PreparedStore(), replace(SETTINGS, **changed))
        self.model.learn(KNOWN)

    def reward(self, prompt: TokenIds, response: TokenIds) -> Tensor:
        batch = collate([Row("alone", prompt, (response,))])
        return self.model.net.rewards(batch, self._base.lower(batch))

    def both(self, pair: Preference) -> tuple[Tensor, Tensor]:
        """Rewards of chosen and rejected."""
        return self.reward(pair.prompt_ids, pair.chosen_ids), self.reward(pair.prompt_ids, pair.rejected_ids)

    def slope(self, loss: Callable[[], Tensor]) -> Tensor:
        """The loss's gradient, clipped to norm 1."""
        with self._backbone.worn(REWARD):
            grads = torch.autograd.grad(loss().squeeze(), self.model.net.parameters)
        whole = torch.cat([grad.flatten() for grad in grads])
        return whole / max(1.0, float(whole.norm()))

    def learned(self, *new: Judgement) -> Tensor:
        """The gradient of a step on these: after - decay * before = (1 - decay) * gradient."""
        before = self._moments()
        self.model.learn([*KNOWN, *new])
        return (self._moments() - DECAY * before) / (1 - DECAY)

    def _moments(self) -> Tensor:
        net = self.model.net
        return torch.cat([net.adam.state[p]["exp_avg"].flatten() for p in net.parameters]).clone()


def same(got: Tensor, want: Tensor) -> bool:
    """Up to a hundredth of a percent of the whole."""
    return float((got - want).norm()) < 1e-4 * float(want.norm())


def strong(strength: float = 1.0) -> Preference:
    return replace(pairs(1, seed=6)[0], strength=strength)


def test_a_comparison_pays_by_the_difference_of_its_rewards() -> None:
    net, pair = Net(), strong()

    def loss() -> Tensor:
        chosen, rejected = net.both(pair)
        return -logsigmoid(chosen - rejected)

    want = net.slope(loss)
    assert same(net.learned(pair), want)


def test_a_strong_preference_is_asked_for_the_margin_and_a_weaker_one_for_its_part() -> None:
    net = Net(margin=2.0)
    much, some = strong(1.0), replace(pairs(2, seed=6)[1], strength=0.5)

    def loss() -> Tensor:
        (first, second), (third, fourth) = net.both(much), net.both(some)
        return -(logsigmoid(first - second - 2.0) + logsigmoid(third - fourth - 1.0)) / 2

    want = net.slope(loss)
    assert same(net.learned(much, some), want)


def test_centring_pulls_both_rewards_to_nothing() -> None:
    net, pair = Net(centring=0.5), strong()

    def loss() -> Tensor:
        chosen, rejected = net.both(pair)
        return -logsigmoid(chosen - rejected) + 0.5 * (chosen + rejected) ** 2

    want = net.slope(loss)
    assert same(net.learned(pair), want)


def test_the_temperature_is_that_of_comparisons() -> None:
    net, pair = Net(beta=3.0), strong()

    def loss() -> Tensor:
        chosen, rejected = net.both(pair)
        return -logsigmoid(3.0 * (chosen - rejected))

    want = net.slope(loss)
    assert same(net.learned(pair), want)


@pytest.mark.parametrize(("up", "odds"), [(True, 6 / 2), (False, 5 / 3)])
def test_a_thumb_is_read_beside_how_generous_people_are(up: bool, odds: float) -> None:
    """Four up and one down are known; with the new one, and one more of each, so many to one."""
    net, given = Net(), thumb(pairs(1, seed=6)[0], up)

    def loss() -> Tensor:
        logit = net.reward(given.prompt_ids, given.response_ids) + torch.tensor(odds).log()
        return -logsigmoid(logit if up else -logit)

    want = net.slope(loss)
    assert same(net.learned(given), want)


def test_a_judgement_counts_for_half_after_its_half_life() -> None:
    net = Net(half_life=100.0)
    new, old = (replace(p, time=time) for p, time in zip(pairs(2, seed=6), (500.0, 400.0), strict=True))

    def loss() -> Tensor:
        (first, second), (third, fourth) = net.both(new), net.both(old)
        return -(2 * logsigmoid(first - second) + logsigmoid(third - fourth)) / 3

    want = net.slope(loss)
    assert same(net.learned(new, old), want)

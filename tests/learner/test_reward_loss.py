"""The reward model's loss on comparisons and thumbs side by side, by hand."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import pytest
import torch

from feedback.examples import Thumb
from learner.reward_loss import RewardForm, generosity, judged_loss
from tests.learner.tiny_llama import preference


def cross(log_odds: float) -> float:
    """-log s(log_odds)."""
    return log(1 + exp(-log_odds))


def thumb(id: str, up: bool) -> Thumb:
    return Thumb(
        id=id, event_ids=(id,), prompt_ids=(1,), user="u", conversation="c", time=0.0, source="human",
        response_ids=(2,), up=up,
    )  # fmt: skip


def test_each_judgement_pays_for_its_own_responses() -> None:
    pair = preference("p", (1,), (2,), (3,))
    judged = [
        (thumb("up", True), 0.2),
        (pair, 0.5),
        (replace(pair, id="t", tie=True), 0.2),
        (thumb("no", False), 0.1),
    ]
    rewards = torch.tensor([0.3, 1.0, 0.4, 0.7, 0.5, -0.6])
    loss, margins = judged_loss(rewards, judged, RewardForm(bias=0.25))
    tie = (cross(0.2) + cross(-0.2)) / 2
    assert loss.item() == pytest.approx(0.2 * cross(0.55) + 0.5 * cross(0.6) + 0.2 * tie + 0.1 * cross(0.35))
    assert margins == pytest.approx({"p": 0.6, "t": 0.2})


def test_margin_and_centring_are_of_pairs() -> None:
    strong = replace(preference("p", (1,), (2,), (3,)), strength=0.5)
    loss, _ = judged_loss(torch.tensor([1.0, 0.4]), [(strong, 1.0)], RewardForm(margin=0.8, centring=0.1))
    assert loss.item() == pytest.approx(cross(0.6 - 0.4) + 0.1 * 1.4**2)


def test_the_temperature_is_of_comparisons() -> None:
    pair = preference("p", (1,), (2,), (3,))
    loss, margins = judged_loss(torch.tensor([1.0, 0.4]), [(pair, 1.0)], RewardForm(beta=2.0))
    assert loss.item() == pytest.approx(cross(2 * 0.6)) and margins == pytest.approx({"p": 0.6})


def test_generosity_is_the_log_odds_of_a_thumb_up() -> None:
    ups = [thumb(str(n), up=n < 5) for n in range(6)]
    assert generosity(ups) == pytest.approx(log(6 / 2))  # 5 and 1, each with one more
    assert generosity([preference("p", (1,), (2,), (3,))]) == 0


def test_who_presses_up_whatever_comes_hardly_pulls() -> None:
    rewards = torch.zeros(2, requires_grad=True)
    ups = [thumb(str(n), up=True) for n in range(40)]
    loss, _ = judged_loss(rewards, [(ups[0], 0.5), (ups[1], 0.5)], RewardForm(bias=generosity(ups)))
    loss.backward()
    # z = log 41, s(-z) = 1 / 42; without the bias it were 1 / 2
    assert rewards.grad is not None and rewards.grad.tolist() == pytest.approx([-0.5 / 42] * 2)

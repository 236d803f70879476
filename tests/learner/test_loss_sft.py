"""Supervised fine-tuning's loss, and grades as comparisons."""

from __future__ import annotations

import pytest
import torch

from learner.losses import sft
from tests.learner.by_hand import draw, gradient, t


def test_sft_by_hand():
    # 2 and 8 tokens of -6 and -4 nats: 3 and 0.5 nats a token; all tokens alike: 10 nats / 10 tokens
    out = sft(t(-6, -4), t(2, 8))
    assert out.losses.tolist() == [3, 0.5]
    assert out.loss.item() == pytest.approx(1)


def test_sft_weights_are_shares_of_responses():
    assert sft(t(-6, -4), t(2, 8), weights=t(0.5, 0.5)).loss.item() == pytest.approx(1.75)


def test_sft_raises_every_tokens_probability_alike():
    logprobs = t(-6, -4).requires_grad_()
    sft(logprobs, t(2, 8)).loss.backward()
    assert gradient(logprobs) == pytest.approx([-0.1, -0.1])


def test_sft_of_a_sure_model_costs_nothing():
    assert sft(t(0, 0), t(3, 4)).loss.item() == 0


def test_sft_autograd_in_float64():
    assert torch.autograd.gradcheck(lambda x: sft(x, t(1, 2, 3), t(0.2, 0.3, 0.5)).loss, [draw(3)])

"""Supervised fine-tuning's loss, and grades as comparisons."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.losses import Grade, Verdict, compare, sft, verdicts
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


def test_grades_by_hand():
    assert compare(Grade(5), Grade(1)) == 1  # the whole scale
    assert compare(Grade(2), Grade(4)) == -0.5
    assert compare(Grade(3, 1), Grade(3, 3)) == -0.25  # equally helpful: presentation, for a quarter at most
    assert compare(Grade(4, 1), Grade(3, 3)) == 0.25  # helpfulness decides
    assert compare(Grade(3), Grade(3)) == 0
    assert compare(Grade(0, 2), Grade(0, 1)) == 0.125
    assert compare(Grade(3), Grade(0, 2)) is None  # nothing graded in both


grades = st.builds(Grade, st.integers(0, 5), st.integers(0, 3))


@given(grades, grades)
def test_comparing_turned_round_is_the_negative(first: Grade, second: Grade):
    one, other = compare(first, second), compare(second, first)
    assert (one is None) == (other is None)
    assert one is None or other is None or one == -other


def test_three_grades_are_three_comparisons_of_a_third():
    assert verdicts([Grade(4), Grade(2), Grade(4)]) == [
        Verdict(0, 1, 0.5, 1 / 3),
        Verdict(0, 2, 0.0, 1 / 3),
        Verdict(2, 1, 0.5, 1 / 3),
    ]
    assert [v.tie for v in verdicts([Grade(4), Grade(2), Grade(4)])] == [False, True, False]


def test_one_grade_alone_says_nothing():
    assert verdicts([Grade(5, 3)]) == []

"""The reward model's losses: comparisons, rankings, thumbs, centring."""

from __future__ import annotations

from math import log

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from learner.losses import bradley_terry, centring, pointwise
from tests.learner.by_hand import draw, flags, gradient, sigmoid, t


def test_bradley_terry_by_hand():
    # d = 1.5 - 0.5 = 1: -log s(1) = 0.31326; a margin of 0.4 leaves 0.6: -log s(0.6) = 0.43749
    assert bradley_terry(t(1.5), t(0.5)).loss.item() == pytest.approx(0.31326169)
    out = bradley_terry(t(1.5), t(0.5), margin=t(0.4))
    assert out.loss.item() == pytest.approx(0.43748795)
    assert out.margins.item() == pytest.approx(1.0)  # reported without the loss's margin


def test_temperature_by_hand():
    # beta 2: -log s(2 * (1 - 0.4)) = -log s(1.2) = 0.26328
    out = bradley_terry(t(1.5), t(0.5), margin=t(0.4), beta=2.0)
    assert out.loss.item() == pytest.approx(-log(sigmoid(1.2)))


@pytest.mark.parametrize("beta", [1.0, 2.0])
@pytest.mark.parametrize(("which", "sign"), [(0, -1), (1, +1), (2, +1)])
def test_gradient_of_each_term(which: int, sign: int, beta: float):
    """Chosen up, rejected down, margin up costs: each by beta * sigmoid(-beta * (d - margin))."""
    terms = [t(1.5), t(0.5), t(0.4)]
    terms[which].requires_grad_()
    bradley_terry(*terms, beta=beta).loss.backward()
    assert gradient(terms[which]) == pytest.approx([sign * beta * sigmoid(-beta * 0.6)])


def test_a_tie_pulls_two_rewards_together():
    # d = 1: (0.31326 + 1.31326) / 2 = 0.81326; the gradient on the higher reward is s(1) - 1/2 = +0.23106
    high, low = t(1.5).requires_grad_(), t(0.5).requires_grad_()
    out = bradley_terry(high, low, margin=t(9.0), ties=flags(True))
    assert out.loss.item() == pytest.approx((0.31326169 + 1.31326169) / 2)
    out.loss.backward()
    assert gradient(high) == pytest.approx([sigmoid(1) - 0.5])
    assert gradient(low) == pytest.approx([0.5 - sigmoid(1)])


def test_equal_rewards_cost_log_two_and_so_does_no_trust():
    assert bradley_terry(t(3.0, -1.0), t(3.0, -1.0)).loss.item() == pytest.approx(log(2))
    assert bradley_terry(t(3.0), t(3.0), ties=flags(True)).loss.item() == pytest.approx(log(2))
    assert bradley_terry(t(9.0), t(1.0), beta=1e-12).loss.item() == pytest.approx(log(2))  # beta -> 0


def test_weights_are_shares():
    # losses 0.69315 and 0.12693; shares 0.25 and 0.75
    got = bradley_terry(t(0, 2), t(0, 0), weights=t(0.25, 0.75)).loss.item()
    assert got == pytest.approx(0.26848280)


def test_thumbs_by_hand():
    # z = 0.5 + 0.1 = 0.6: up costs -log s(0.6) = 0.43749, down -log s(-0.6) = 1.03749
    out = pointwise(t(0.5, 0.5), flags(True, False), bias=t(0.1, 0.1))
    assert out.losses.tolist() == pytest.approx([0.43748795, 1.03748795])
    assert out.loss.item() == pytest.approx((0.43748795 + 1.03748795) / 2)
    assert out.logits.tolist() == pytest.approx([0.6, 0.6])


@pytest.mark.parametrize(("up", "slope"), [(True, -sigmoid(-0.6)), (False, sigmoid(0.6))])
@pytest.mark.parametrize("term", ["reward", "bias"])
def test_thumbs_pull_reward_and_bias_their_way(up: bool, slope: float, term: str):
    terms = {"reward": t(0.5), "bias": t(0.1)}
    terms[term].requires_grad_()
    pointwise(terms["reward"], flags(up), terms["bias"]).loss.backward()
    assert gradient(terms[term]) == pytest.approx([slope])


def test_an_indifferent_thumb_costs_log_two():
    assert pointwise(t(0, 0), flags(True, False)).loss.item() == pytest.approx(log(2))


def test_a_learned_bias_is_the_log_odds_of_a_thumb_up():
    # 3 of 4 thumbs are up and all rewards 0: the slope in b is zero at b = log 3
    bias = torch.tensor(log(3), dtype=torch.float64, requires_grad=True)
    pointwise(t(0, 0, 0, 0), flags(True, True, True, False), bias).loss.backward()
    assert bias.grad is not None
    assert bias.grad.item() == pytest.approx(0, abs=1e-12)


def test_centring_by_hand():
    # (3 + -1)^2 = 4 and (1 + 1)^2 = 4, then (0.5 + -0.5)^2 = 0
    assert centring(t(3, 1, 0.5), t(-1, 1, -0.5)).item() == pytest.approx(8 / 3)
    assert centring(t(3, 0.5), t(-1, -0.5), weights=t(0.5, 9)).item() == pytest.approx(2)


@pytest.mark.parametrize("which", [0, 1])
def test_centring_pulls_both_rewards_down_when_their_sum_is_above_zero(which: int):
    terms = [t(3.0), t(-1.0)]
    terms[which].requires_grad_()
    centring(*terms).backward()
    assert gradient(terms[which]) == pytest.approx([2 * (3 - 1)])


def test_autograd_in_float64():
    shares, ties = draw(5, seed=1, wanted=False).abs(), flags(True, False, False, True, False)
    three = [draw(5, seed=seed) for seed in (2, 3, 4)]
    check = torch.autograd.gradcheck
    assert check(lambda a, b, m: bradley_terry(a, b, m, shares, ties, 0.7).loss, three)
    assert check(lambda r, b: pointwise(r, ties, b, shares).loss, three[:2])
    assert check(lambda a, b: centring(a, b, shares), three[:2])


def test_shapes_are_what_the_types_say():
    checked = jaxtyped(typechecker=beartype)
    with pytest.raises(TypeCheckError):
        checked(bradley_terry)(torch.zeros(2), torch.zeros(3))
    with pytest.raises(TypeCheckError):
        checked(pointwise)(torch.zeros(2), torch.zeros(2))  # flags are booleans

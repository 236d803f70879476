"""Worked arithmetic of each loss, the direction of every term, limits, and gradients in float64."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped
from torch import Tensor

from learner.losses import bradley_terry, dpo

TERMS = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def test_dpo_by_hand():
    # log-ratios: chosen -10 - -12 = 2, rejected -20 - -15 = -5; beta 0.1: rewards 0.2 and -0.5, margin 0.7
    out = dpo(t(-10), t(-20), t(-12), t(-15), beta=0.1)
    assert out.chosen_rewards.item() == pytest.approx(0.2)
    assert out.rejected_rewards.item() == pytest.approx(-0.5)
    assert out.margins.item() == pytest.approx(0.7)
    assert out.loss.item() == pytest.approx(-log(sigmoid(0.7)))  # 0.403
    assert out.loss.item() == pytest.approx(0.40318605)


def test_conservative_dpo_by_hand():
    # margin 0.7 as above; one label in ten wrong: 0.9 * 0.40319 + 0.1 * 1.10319 = 0.47319
    out = dpo(t(-10), t(-20), t(-12), t(-15), beta=0.1, label_smoothing=0.1)
    assert out.loss.item() == pytest.approx(0.9 * -log(sigmoid(0.7)) + 0.1 * -log(sigmoid(-0.7)))
    assert out.loss.item() == pytest.approx(0.47318605)


@pytest.mark.parametrize(
    ("term", "sign"),
    [("policy_chosen", -1), ("policy_rejected", +1), ("ref_chosen", +1), ("ref_rejected", -1)],
)
def test_dpo_gradient_of_each_term(term: str, sign: int):
    """d loss / d term = sign * beta * sigmoid(-margin): at margin 0.7 and beta 0.1, 0.1 * 0.33181."""
    terms: dict[str, Tensor] = dict(zip(TERMS, (t(-10), t(-20), t(-12), t(-15)), strict=True))
    terms[term].requires_grad_()
    dpo(**terms, beta=0.1).loss.backward()
    gradient = terms[term].grad
    assert gradient is not None
    assert gradient.item() == pytest.approx(sign * 0.1 * sigmoid(-0.7))


def test_smoothing_stops_the_margin_where_the_label_noise_says():
    # d loss / d margin = sigmoid(m) - (1 - eps): zero at m = log((1 - eps) / eps), = log 9 for eps = 0.1
    chosen = t(log(9)).requires_grad_()
    dpo(chosen, t(0), t(0), t(0), beta=1.0, label_smoothing=0.1).loss.backward()
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(0, abs=1e-12)


def test_dpo_limits():
    args = t(-10, -30), t(-20, -4), t(-12, -9), t(-15, -9)
    assert dpo(*args, beta=1e-12).loss.item() == pytest.approx(log(2))  # beta -> 0: no opinion
    same = t(-7, -8)
    assert dpo(same, same, same, same, beta=5.0).loss.item() == pytest.approx(log(2))  # equal pairs
    sure = dpo(t(400), t(-400), t(0), t(0), beta=1.0)
    assert sure.loss.item() == pytest.approx(0)
    wrong = dpo(t(-400), t(400), t(0), t(0), beta=1.0)
    assert wrong.loss.item() == pytest.approx(800)  # -log sigmoid(-800) = 800: no overflow


def test_dpo_swapped_labels_swap_the_rewards():
    a = dpo(t(-10), t(-20), t(-12), t(-15), beta=0.1)
    b = dpo(t(-20), t(-10), t(-15), t(-12), beta=0.1)
    assert a.margins.item() == pytest.approx(-b.margins.item())
    # -log s(m) and -log s(-m) differ by the margin
    assert (b.loss - a.loss).item() == pytest.approx(0.7)


def test_weights_are_shares():
    # losses log 2 = 0.69315 (margin 0) and -log s(2) = 0.12693; shares 0.25 and 0.75
    chosen, zero = t(0, 2), t(0, 0)
    assert dpo(chosen, zero, zero, zero, beta=1.0, weights=t(0.25, 0.75)).loss.item() == pytest.approx(
        0.25 * 0.69314718 + 0.75 * 0.12692801
    )
    assert bradley_terry(chosen, zero, weights=t(0.25, 0.75)).loss.item() == pytest.approx(0.26848280)
    assert dpo(chosen, zero, zero, zero, beta=1.0).loss.item() == pytest.approx((0.69314718 + 0.12692801) / 2)


def test_bradley_terry_by_hand():
    # d = 1.5 - 0.5 = 1: -log s(1) = 0.31326; a margin of 0.4 leaves 0.6: -log s(0.6) = 0.43749
    assert bradley_terry(t(1.5), t(0.5)).loss.item() == pytest.approx(0.31326169)
    out = bradley_terry(t(1.5), t(0.5), margin=t(0.4))
    assert out.loss.item() == pytest.approx(-log(sigmoid(0.6)))
    assert out.loss.item() == pytest.approx(0.43748795)
    assert out.margins.item() == pytest.approx(1.0)  # reported without the loss's margin


@pytest.mark.parametrize(("which", "sign"), [(0, -1), (1, +1), (2, +1)])
def test_bradley_terry_gradient_of_each_term(which: int, sign: int):
    """Chosen up, rejected down, margin up costs: each by sigmoid(-(d - margin)) = sigmoid(-0.6)."""
    terms = [t(1.5), t(0.5), t(0.4)]
    terms[which].requires_grad_()
    bradley_terry(*terms).loss.backward()
    gradient = terms[which].grad
    assert gradient is not None
    assert gradient.item() == pytest.approx(sign * sigmoid(-0.6))


def test_a_tie_pulls_two_rewards_together():
    # d = 1: (0.31326 + 1.31326) / 2 = 0.81326; the gradient on the higher reward is s(1) - 1/2 = +0.23106
    high, low = t(1.5).requires_grad_(), t(0.5).requires_grad_()
    out = bradley_terry(high, low, margin=t(9.0), ties=torch.tensor([True]))
    assert out.loss.item() == pytest.approx((0.31326169 + 1.31326169) / 2)
    out.loss.backward()
    assert high.grad is not None
    assert low.grad is not None
    assert high.grad.item() == pytest.approx(sigmoid(1) - 0.5)
    assert low.grad.item() == pytest.approx(0.5 - sigmoid(1))
    assert bradley_terry(t(3.0), t(3.0), ties=torch.tensor([True])).loss.item() == pytest.approx(log(2))


def test_equal_rewards_cost_log_two():
    assert bradley_terry(t(3.0, -1.0), t(3.0, -1.0)).loss.item() == pytest.approx(log(2))


def test_autograd_in_float64():
    generator = torch.Generator().manual_seed(7)
    four = [torch.randn(5, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    shares = torch.rand(5, generator=generator, dtype=torch.float64)
    ties = torch.tensor([True, False, False, True, False])
    assert torch.autograd.gradcheck(
        lambda *x: dpo(*x, beta=0.3, weights=shares, label_smoothing=0.2).loss, four
    )
    assert torch.autograd.gradcheck(lambda a, b, m: bradley_terry(a, b, m, shares, ties).loss, four[:3])


def test_shapes_are_what_the_types_say():
    """[2] against [2, 1] would broadcast to four pairs in silence; the annotations, checked, refuse it."""
    checked = jaxtyped(typechecker=beartype)
    good, column = torch.zeros(2), torch.zeros(2, 1)
    assert checked(dpo)(good, good, good, good, beta=0.1).loss.item() == pytest.approx(log(2))
    with pytest.raises(TypeCheckError):
        checked(dpo)(good, good, column, good, beta=0.1)
    with pytest.raises(TypeCheckError):
        checked(bradley_terry)(good, torch.zeros(3))

"""DPO's variants: worked arithmetic, the direction of every term, limits, and gradients in float64."""

from __future__ import annotations

from math import log

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from learner.losses import Both, DpoForm, Variant, desensitised, dpo
from tests.learner.by_hand import draw, gradient, sigmoid, t

TERMS = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")
# log-ratios: chosen -10 - -12 = 2, rejected -20 - -15 = -5; h = 7; beta 0.1: rewards 0.2 and -0.5, margin 0.7
POLICY, REFERENCE = Both(t(-10), t(-20)), Both(t(-12), t(-15))
ZERO = Both(t(0), t(0))
PLAIN = DpoForm(0.1)
NOISY: list[Variant] = ["conservative", "robust"]
ALL: list[Variant] = ["sigmoid", *NOISY, "ipo"]


def test_sigmoid_by_hand():
    out = dpo(POLICY, REFERENCE, PLAIN)
    assert out.chosen_rewards.item() == pytest.approx(0.2)
    assert out.rejected_rewards.item() == pytest.approx(-0.5)
    assert out.margins.item() == pytest.approx(0.7)
    assert out.loss.item() == pytest.approx(-log(sigmoid(0.7)))
    assert out.loss.item() == pytest.approx(0.40318605)


def test_conservative_by_hand():
    # one label in ten wrong: 0.9 * 0.40319 + 0.1 * 1.10319 = 0.47319
    out = dpo(POLICY, REFERENCE, DpoForm(0.1, "conservative", 0.1))
    assert out.loss.item() == pytest.approx(0.9 * -log(sigmoid(0.7)) + 0.1 * -log(sigmoid(-0.7)))
    assert out.loss.item() == pytest.approx(0.47318605)


def test_robust_by_hand():
    # (0.9 * 0.40319 - 0.1 * 1.10319) / 0.8 = (0.36287 - 0.11032) / 0.8 = 0.31569
    out = dpo(POLICY, REFERENCE, DpoForm(0.1, "robust", 0.1))
    assert out.loss.item() == pytest.approx(0.31568605)


def test_ipo_by_hand_per_token_and_per_response():
    # 4 chosen and 10 rejected tokens: 2 / 4 - -5 / 10 = 1; 1 / (2 * 0.1) = 5; (1 - 5)^2 = 16
    form = DpoForm(0.1, "ipo")
    assert dpo(POLICY, REFERENCE, form, lengths=Both(t(4), t(10))).loss.item() == pytest.approx(16)
    # sums: h = 7, (7 - 5)^2 = 4
    assert dpo(POLICY, REFERENCE, form).loss.item() == pytest.approx(4)


def slope(variant: Variant) -> float:
    """d loss / d margin at margin 0.7 by hand; flip rate 0.2."""
    wrong, right = sigmoid(-0.7), sigmoid(0.7)  # 0.33181, 0.66819
    return {
        "sigmoid": -wrong,
        "conservative": -0.8 * wrong + 0.2 * right,
        "robust": (-0.8 * wrong - 0.2 * right) / 0.6,
        "ipo": 2 * (7 - 5) / 0.1,  # d (h - 5)^2 / dh = 4, and h = margin / beta
    }[variant]


@pytest.mark.parametrize("variant", ALL)
@pytest.mark.parametrize(
    ("term", "sign"),
    [("policy_chosen", +1), ("policy_rejected", -1), ("ref_chosen", -1), ("ref_rejected", +1)],
)
def test_gradient_of_each_term(variant: Variant, term: str, sign: int):
    """d loss / d term = d loss / d margin * beta * (d h / d term: + - - +)."""
    terms = dict(zip(TERMS, (value.clone() for value in (*POLICY, *REFERENCE)), strict=True))
    terms[term].requires_grad_()
    policy, reference = (
        Both(terms["policy_chosen"], terms["policy_rejected"]),
        Both(terms["ref_chosen"], terms["ref_rejected"]),
    )
    dpo(policy, reference, DpoForm(0.1, variant, 0.2 if variant in NOISY else 0.0)).loss.backward()
    assert gradient(terms[term]) == pytest.approx([sign * 0.1 * slope(variant)])


def test_smoothing_stops_the_margin_where_the_label_noise_says():
    # d loss / d margin = sigmoid(m) - (1 - eps): zero at m = log((1 - eps) / eps), = log 9 for eps = 0.1
    chosen = t(log(9)).requires_grad_()
    dpo(Both(chosen, t(0)), ZERO, DpoForm(1.0, "conservative", 0.1)).loss.backward()
    assert gradient(chosen) == pytest.approx([0], abs=1e-12)


def test_robust_is_unbiased_under_flips():
    # a true label is flipped with chance 0.3: the mean of robust over flips is sigmoid on the true label
    form = DpoForm(0.1, "robust", 0.3)
    swapped = dpo(Both(*POLICY[::-1]), Both(*REFERENCE[::-1]), form).loss
    mean = 0.7 * dpo(POLICY, REFERENCE, form).loss + 0.3 * swapped
    assert mean.item() == pytest.approx(dpo(POLICY, REFERENCE, PLAIN).loss.item())


@pytest.mark.parametrize("variant", NOISY)
def test_without_flips_all_are_sigmoid(variant: Variant):
    assert dpo(POLICY, REFERENCE, DpoForm(0.1, variant)).loss.item() == pytest.approx(0.40318605)


@pytest.mark.parametrize("variant", NOISY)
def test_equal_pairs_and_no_beta_cost_log_two(variant: Variant):
    # cross-entropy of a fair coin to any label is log 2, and (0.8 log 2 - 0.2 log 2) / 0.6 = log 2
    form, same = DpoForm(5.0, variant, 0.2), Both(t(-7, -8), t(-7, -8))
    assert dpo(same, same, form).loss.item() == pytest.approx(log(2))
    assert dpo(POLICY, REFERENCE, DpoForm(1e-12, variant, 0.2)).loss.item() == pytest.approx(log(2))


def test_sigmoid_limits():
    assert dpo(POLICY, REFERENCE, DpoForm(1e-12)).loss.item() == pytest.approx(log(2))  # no opinion
    assert dpo(POLICY, POLICY, DpoForm(5.0)).loss.item() == pytest.approx(log(2))  # policy = reference
    assert dpo(Both(t(400), t(-400)), ZERO, DpoForm(1.0)).loss.item() == pytest.approx(0)
    # -log sigmoid(-800) = 800: no overflow
    assert dpo(Both(t(-400), t(400)), ZERO, DpoForm(1.0)).loss.item() == pytest.approx(800)


def test_ipo_is_least_at_its_target_margin():
    # h = 1 / (2 beta) = 5 costs nothing, and more costs again: 6 as much as 4
    def cost(h: float) -> float:
        return dpo(Both(t(h), t(0)), ZERO, DpoForm(0.1, "ipo")).loss.item()

    assert [cost(4), cost(5), cost(6)] == pytest.approx([1, 0, 1])


def test_swapped_labels_swap_the_rewards():
    a = dpo(POLICY, REFERENCE, PLAIN)
    b = dpo(Both(*POLICY[::-1]), Both(*REFERENCE[::-1]), PLAIN)
    assert a.margins.item() == pytest.approx(-b.margins.item())
    # -log s(m) and -log s(-m) differ by the margin
    assert (b.loss - a.loss).item() == pytest.approx(0.7)


def test_weights_are_shares():
    # losses log 2 = 0.69315 (margin 0) and -log s(2) = 0.12693; shares 0.25 and 0.75
    pairs, base = Both(t(0, 2), t(0, 0)), Both(t(0, 0), t(0, 0))
    got = dpo(pairs, base, DpoForm(1.0), t(0.25, 0.75)).loss.item()
    assert got == pytest.approx(0.25 * 0.69314718 + 0.75 * 0.12692801)
    assert dpo(pairs, base, DpoForm(1.0)).loss.item() == pytest.approx((0.69314718 + 0.12692801) / 2)


def test_desensitised_by_hand():
    # chosen: -1 -2 | -3 -4 (2 shared, 2 more), rejected: -5 -6; alpha 0.5: -3 - 0.5 * 7 = -6.5 and -11
    # second pair: chosen -7, rejected -8 | -9: -7 and -8 - 4.5 = -12.5
    values = t(-1, -2, -3, -4, -5, -6, -7, -8, -9)
    got = desensitised(values, torch.tensor([[4, 2], [1, 2]]), alpha=0.5)
    assert got.tolist() == [[-6.5, -11], [-7, -12.5]]


def test_desensitised_limits():
    values, lengths = t(-1, -2, -3, -4, -5, -6), torch.tensor([[4, 2]])
    assert desensitised(values, lengths, 1.0).tolist() == [[-10, -11]]  # plain sums
    assert desensitised(values, lengths, 0.0).tolist() == [[-3, -11]]  # the tail is cut


@pytest.mark.parametrize("variant", ALL)
def test_autograd_in_float64(variant: Variant):
    form = DpoForm(0.3, variant, 0.2 if variant in NOISY else 0.0)
    shares, lengths = draw(5, seed=1, wanted=False).abs(), Both(t(1, 2, 3, 4, 5), t(5, 4, 3, 2, 1))
    four = [draw(5, seed=seed) for seed in range(2, 6)]
    assert torch.autograd.gradcheck(
        lambda a, b, c, d: dpo(Both(a, b), Both(c, d), form, shares, lengths).loss, four
    )


def test_desensitised_autograd_in_float64():
    lengths = torch.tensor([[2, 4], [3, 1]])
    assert torch.autograd.gradcheck(lambda x: desensitised(x, lengths, 0.3), [draw(10)])


@pytest.mark.parametrize(
    ("beta", "variant", "flips", "words"),
    [
        (0.0, "sigmoid", 0.0, "beta 0.0"),
        (0.1, "robust", 0.5, "0.5"),
        (0.1, "ipo", 0.1, "ipo takes no flip_rate"),
    ],
)
def test_senseless_forms_are_refused(beta: float, variant: Variant, flips: float, words: str):
    with pytest.raises(ValueError, match=words):
        DpoForm(beta, variant, flips)


def test_shapes_are_what_the_types_say():
    """[2] against [2, 1] would broadcast to four pairs in silence; the annotations, checked, refuse it."""
    checked = jaxtyped(typechecker=beartype)(dpo)
    good, column = torch.zeros(2), torch.zeros(2, 1)
    assert checked(Both(good, good), Both(good, good), PLAIN).loss.item() == pytest.approx(log(2))
    with pytest.raises(TypeCheckError):
        checked(Both(good, good), Both(good, good), PLAIN, column)

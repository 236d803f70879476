"""KTO: worked arithmetic, signs, the reference point, and weights from counts on a stream."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.losses import ThumbCounts, kto, reference_point
from tests.learner.by_hand import draw, flags, gradient, sigmoid, t

ZERO = torch.tensor(0.0, dtype=torch.float64)
TWO = torch.tensor(2.0, dtype=torch.float64)


def test_by_hand():
    # beta 0.1, z0 = 2: up 5 -> m = 0.3, 1 - s(0.3) = 0.42556; down 5 -> m = -0.3, 1 - s(-0.3) = 0.57444
    out = kto(t(5, 5), flags(True, False), 0.1, TWO)
    assert out.margins.tolist() == pytest.approx([0.3, -0.3])
    assert out.losses.tolist() == pytest.approx([0.42555748, 0.57444252])
    assert out.loss.item() == pytest.approx(0.5)


def test_each_kind_has_its_weight():
    # 2 * 0.42556 and 3 * 0.57444, shares 0.25 and 0.75: 0.21278 + 1.29250
    out = kto(t(5, 5), flags(True, False), 0.1, TWO, (2.0, 3.0), weights=t(0.25, 0.75))
    assert out.loss.item() == pytest.approx(0.25 * 2 * 0.42555748 + 0.75 * 3 * 0.57444252)


@pytest.mark.parametrize(("up", "sign"), [(True, -1), (False, +1)])
def test_gradient_raises_the_liked_and_lowers_the_disliked(up: bool, sign: int):
    # d (1 - s(m)) / d ratio = -+ beta * s(m) * s(-m), m = +-0.3
    ratio = t(5).requires_grad_()
    kto(ratio, flags(up), 0.1, TWO).loss.backward()
    assert gradient(ratio) == pytest.approx([sign * 0.1 * sigmoid(0.3) * sigmoid(-0.3)])


def test_the_reference_point_lowers_what_a_liked_response_has_earned():
    # the same ratio of 5 counts for less when everything went up by 2
    high = kto(t(5), flags(True), 0.1, TWO).loss
    assert (high - kto(t(5), flags(True), 0.1, ZERO).loss).item() == pytest.approx(
        sigmoid(0.5) - sigmoid(0.3)
    )


def test_the_reference_point_gets_no_gradient():
    point = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    ratio = t(5).requires_grad_()
    kto(ratio, flags(True), 0.1, point).loss.backward()
    assert point.grad is None


def test_limits():
    # beta -> 0 or ratio = z0: one half; far on either side: 0 or the whole weight, and no slope
    assert kto(t(5, -9), flags(True, False), 1e-12, ZERO).loss.item() == pytest.approx(0.5)
    assert kto(t(2), flags(True), 5.0, TWO).loss.item() == pytest.approx(0.5)
    far = t(900, -900).requires_grad_()
    out = kto(far, flags(True, True), 1.0, ZERO)
    assert out.losses.tolist() == pytest.approx([0, 1])
    out.loss.backward()
    assert gradient(far) == [0, 0]


def test_reference_point_is_a_mean_above_zero():
    assert reference_point(t(3, -1)).item() == 1
    assert reference_point(t(1, -3)).item() == 0  # -1 would say that the divergence is negative
    assert reference_point(t()).item() == 0
    assert not reference_point(draw(3)).requires_grad


def test_counts_by_hand():
    assert ThumbCounts(6, 5).weights() == (1, 1)  # 6 / 5 = 1.2 lies inside
    assert ThumbCounts(10, 5).weights() == (1, 1.5)  # 10 / (1.5 * 5) = 4/3
    assert ThumbCounts(5, 10).weights() == (2, 1)  # 2 * 5 / 10 = 1


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_weights_balance_any_counts(ups: int, downs: int):
    up, down = ThumbCounts(ups, downs).weights()
    assert 1 - 1e-9 <= up * ups / (down * downs) <= 4 / 3 + 1e-9
    assert min(up, down) == 1


@pytest.mark.parametrize("counts", [ThumbCounts(), ThumbCounts(9, 0), ThumbCounts(0, 9)])
def test_one_kind_alone_is_safe(counts: ThumbCounts):
    assert counts.weights() == (1, 1)


def test_a_batch_of_one_kind_has_a_loss_and_a_gradient():
    for up in (True, False):
        ratios = draw(4)
        assert kto(ratios, flags(*[up] * 4), 0.1, ZERO).loss.isfinite()
        assert torch.autograd.gradcheck(lambda r, up=up: kto(r, flags(*[up] * 4), 0.1, ZERO).loss, [ratios])


def test_autograd_in_float64():
    shares, ups = draw(5, seed=1, wanted=False).abs(), flags(True, False, False, True, False)
    assert torch.autograd.gradcheck(lambda r: kto(r, ups, 0.3, TWO, (1.0, 1.2), shares).loss, [draw(5)])

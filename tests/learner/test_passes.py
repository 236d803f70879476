"""The compiled passes, in both precisions, against the plain ones in float64, on what they may meet: odd lengths, shared beginnings, masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from learner.kernels import compiled, plain, scalars
from learner.kernels.passes import passes
from learner.kernels.plain import Heads, Layout, Tally

HEADS = Heads(4, 2, 16)
LAYOUTS = (Layout(HEADS, ((31, 0), (70, 0))), Layout(HEADS, ((12, 0), (65, 12), (1, 12), (29, 12))))
PRECISIONS = (torch.float32, torch.bfloat16)
GIVEN = torch.Generator()


def draw(*shape: int, dtype: torch.dtype = torch.float32, times: float = 1.0) -> Tensor:
    return (times * torch.randn(*shape, generator=GIVEN)).to(dtype)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    GIVEN.manual_seed(4)


def assert_near(
    ours: Sequence[Tensor | None], exact: Sequence[Tensor | None], noise: float = 8.0, more: float = 0.0
) -> None:
    """Each number rounded once from what float64 has, `more` of it off at most; and `noise` roundings of float32 of the largest number."""
    for one, other in zip(ours, exact, strict=True):
        assert (one is None) == (other is None)
        if one is None or other is None:
            continue
        assert one.shape == other.shape
        once, size = 0.51 * torch.finfo(one.dtype).eps + more, other.abs()
        slack = noise * torch.finfo(torch.float32).eps * size.max()
        assert ((one.double() - other).abs() <= once * size + slack).all()


def doubled(*tensors: Tensor) -> list[Tensor]:
    return [tensor.double() for tensor in tensors]


def angles(positions: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    turns = draw(positions, HEADS.dim // 2)
    return turns.cos().to(dtype), turns.sin().to(dtype)


def masked(seq: int, ahead: int, dtype: torch.dtype) -> Tensor:
    """Backwards only, and a stretch that nobody sees who comes after it."""
    seen = torch.ones(seq, seq + ahead).tril(ahead).bool()
    seen[seq // 2 :, seq // 4 + 1 : seq // 2] = False
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)


def test_a_cpu_has_them_compiled_in_the_precisions_of_models_and_plain_otherwise():
    assert [passes(torch.zeros(1, dtype=dtype)) for dtype in PRECISIONS] == [compiled, compiled]
    assert passes(torch.zeros(1, dtype=torch.float64)) is plain
    assert passes(torch.zeros(1, device="meta")) is plain


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("added", [False, True])
def test_norms(dtype: torch.dtype, added: bool):
    x, weight = draw(37, 50, times=3), (1 + draw(50).abs()).to(dtype)
    more = draw(37, 50, dtype=dtype) if added else None
    made = compiled.add_norm(x, more, weight, 1e-5)
    exact = plain.add_norm(x.double(), None if more is None else more.double(), weight.double(), 1e-5)
    assert [part.dtype for part in made] == [torch.float32, dtype, torch.float32]
    assert_near(made, exact)
    _, normed, factor = made
    grads = draw(37, 50), draw(37, 66, dtype=dtype)[:, :50]  # the left part of something wider
    wanted = compiled.norm_back(*grads, normed, weight, factor, dtype)
    assert [part.dtype for part in wanted] == [torch.float32, dtype]
    exact = plain.norm_back(*doubled(*grads, normed, weight, factor), torch.float64)
    assert_near(wanted, exact)
    for way in (compiled, plain):
        roomy = way.add_norm(x, more, weight, 1e-5, room=3)[1]
        assert roomy.shape == (37, 53)
        assert torch.equal(roomy[:, :50], way.add_norm(x, more, weight, 1e-5)[1])
        again = way.norm_back(*grads, roomy[:, :50], weight, factor, dtype)
        assert all(
            map(torch.equal, again, way.norm_back(*grads, roomy[:, :50].clone(), weight, factor, dtype))
        )


def test_states_may_be_in_bfloat16_as_well():
    x, weight = draw(3, 50, dtype=torch.bfloat16), draw(50, dtype=torch.bfloat16)
    assert_near(
        compiled.add_norm(x, None, weight, 1e-5), plain.add_norm(x.double(), None, weight.double(), 1e-5)
    )


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_gates(dtype: torch.dtype):
    both, grad = draw(37, 2 * 50, dtype=dtype, times=3), draw(37, 66, dtype=dtype)[:, :50]
    assert_near([compiled.gate(both)], [plain.gate(both.double())])
    assert_near([compiled.gate_back(both, grad)], [plain.gate_back(*doubled(both, grad))])
    for way in (compiled, plain):
        roomy = way.gate(both, room=3)
        assert roomy.shape == (37, 53)
        assert torch.equal(roomy[:, :50], way.gate(both))


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_gates_far_out(dtype: torch.dtype):
    a = torch.tensor([-1e6, -200.0, -88.0, -80.0, 80.0, 88.0, 200.0, 1e30]).to(dtype)
    exact = plain.gate(torch.stack([a, torch.ones_like(a)], 1).double())[:, 0]
    made = compiled.gate(torch.stack([a, torch.ones_like(a)], 1))[:, 0]
    assert ((made.double() - exact).abs() <= torch.finfo(dtype).eps * exact.abs() + 1e-30).all()


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_turns_there_and_back(dtype: torch.dtype, layout: Layout):
    positions = sum(seq for seq, _ in layout.sizes)
    product, rotary = draw(positions, 8 * HEADS.dim, dtype=dtype), angles(positions, dtype)
    wide = [angle.double() for angle in rotary]
    exact = plain.turned(product.double(), (wide[0], wide[1]), layout)
    assert_near(compiled.turned(product, rotary, layout), exact)
    q, k, v = (draw(len(part), dtype=dtype) for part in layout.room(product))
    exact = plain.turned_back((q.double(), k.double(), v.double()), (wide[0], wide[1]), layout)
    twice = (
        dtype == torch.bfloat16 and len(layout.sizes) > 2
    )  # what several rows saw is rounded as a sum, too
    assert_near([compiled.turned_back((q, k, v), rotary, layout)], [exact], noise=1e5 if twice else 8.0)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_attention(dtype: torch.dtype, layout: Layout):
    positions = sum(seq for seq, _ in layout.sizes)
    product = draw(positions, 8 * HEADS.dim, dtype=dtype, times=2)  # scores up to 30
    parts = plain.turned(product, angles(positions, dtype), layout)
    for (q, k, v), (seq, ahead) in zip(layout.each(parts), layout.sizes, strict=True):
        mask, v = masked(seq, ahead, dtype), v[..., :-2]
        seen, total = compiled.attend(q, k, v, mask, 0.25)
        assert_near([seen], [plain.attend(*doubled(q, k, v, mask), 0.25)[0]], noise=1e5)
        queries, bent = q.view(HEADS.keys, -1, HEADS.dim), draw(HEADS.keys, 2 * seq, seq + ahead, dtype=dtype)
        made = compiled.slopes(queries, k, bent.clone(), mask, 0.25, total)
        assert_near(made, plain.slopes(*doubled(queries, k, bent, mask), 0.25, total), more=1e-3)
        hidden = mask.bool().repeat(HEADS.keys, 2, 1)
        assert not made[0][hidden].any() and not made[1][hidden].any()


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_taken_off_keeps_twice_the_bits(dtype: torch.dtype, layout: Layout):
    positions = sum(seq for seq, _ in layout.sizes)
    width = HEADS.queries * HEADS.dim
    grad, result = (draw(positions, width + room, dtype=dtype)[:, :width] for room in (0, 3))
    made = layout.rows(compiled.pulled(grad, result, layout), HEADS.queries, seen=False)
    parts = (part.unflatten(1, (-1, HEADS.dim)) for part in (grad, result))
    given = zip(*(part.split([seq for seq, _ in layout.sizes]) for part in parts), strict=True)
    for row, (g, o) in zip(made, given, strict=True):
        assert torch.equal(row[..., :-2], g.transpose(0, 1))
        exact = -(g.double() * o.double()).sum(-1).t()
        assert ((row[..., -2:].double().sum(-1) - exact).abs() <= 2e-5 * (1 + exact.abs())).all()


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_words_are_counted_slice_by_slice(dtype: torch.dtype):
    hidden, weight, targets = draw(9, 30, dtype=dtype), draw(301, 30, dtype=dtype), torch.arange(9) * 30
    ours = Tally(torch.zeros(9), targets.clone(), torch.zeros(9))
    exact = Tally(torch.zeros(9).double(), targets.clone(), torch.zeros(9).double())
    for start in range(0, 301, 100):
        logits = hidden @ weight[start : start + 100].t()
        wanted = plain.tally(logits.double(), targets, exact, start)
        assert_near(compiled.tally(logits, targets, ours, start), wanted)
    assert torch.equal(ours.likeliest, exact.likeliest)
    assert_near([ours.high, ours.rest], [exact.high, exact.rest])


def test_rounding_is_torchs_and_no_nan_becomes_a_number():
    bits = torch.randint(-(1 << 31), 1 << 31, (1 << 16,), generator=GIVEN).to(torch.int32)
    odd = [0x7FFFFFFF, -1, 0x7F800001, 0x7F800000, -0x800000, 0x7F7FFFFF, 0x3F808000, 0x3F818000, 1, 0]
    given = torch.cat([torch.tensor(odd, dtype=torch.int32), bits]).view(torch.float32)
    rounded = torch.empty(len(given), dtype=torch.bfloat16)
    through(given.numpy(), rounded.view(torch.uint16).numpy())
    assert torch.equal(rounded.isnan(), given.isnan())
    assert torch.equal(rounded[~given.isnan()], given[~given.isnan()].bfloat16())


@njit
def through(given: NDArray[np.float32], rounded: NDArray[np.uint16]) -> None:
    for i in range(len(given)):
        scalars.put(rounded, i, given[i])


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_no_nan_gets_lost(dtype: torch.dtype):
    nan, weight = draw(4, 64, dtype=dtype), torch.ones(64, dtype=dtype)
    nan[1, 5] = torch.nan
    assert compiled.add_norm(nan.float(), None, weight, 1e-5)[1][1].isnan().all()
    assert (
        compiled.gate(nan)[1, 5].isnan() and compiled.gate_back(nan, draw(4, 32, dtype=dtype))[1, 5].isnan()
    )
    q, k, v = (draw(1, 4, 16, dtype=dtype) for _ in range(3))
    k[0, 2, 3] = torch.nan
    mask = masked(4, 0, dtype)
    total = compiled.attend(q, k, v, mask, 0.25)[1]
    for made in compiled.slopes(q, k, draw(1, 4, 4, dtype=dtype), mask, 0.25, total):
        assert made[0, 3].isnan().any()
    so_far = Tally(torch.zeros(4), torch.zeros(4, dtype=torch.int64), torch.zeros(4))
    compiled.tally(nan, torch.zeros(4, dtype=torch.int64), so_far, 0)
    assert so_far.rest.isnan().tolist() == [False, True, False, False]


def test_sizes_that_do_not_fit_are_refused():
    x, layout = draw(5, 50), Layout(HEADS, ((5, 0),))
    with pytest.raises(ValueError, match="do not fit"):
        compiled.add_norm(x, draw(5, 49), draw(50), 1e-5)
    with pytest.raises(ValueError, match="do not fit"):
        compiled.gate(draw(3, 7))
    with pytest.raises(ValueError, match="do not fit"):
        compiled.turned(draw(5, 8 * HEADS.dim), angles(3, torch.float32), layout)


def test_rows_that_are_no_part_of_a_matrix_are_copied():
    for odd in (
        draw(5, 132)[:, 1:101],
        draw(10, 132)[::2, :100],
        draw(5, 132)[:, :100],
    ):
        assert_near([compiled.gate(odd)], [plain.gate(odd.double())])

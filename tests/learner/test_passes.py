"""The compiled passes against the plain ones, in both precisions, on what they may meet: odd lengths, shared beginnings, masks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from learner.kernels import compiled, plain
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


def alike(ours: Sequence[Tensor | None], theirs: Sequence[Tensor | None], steps: float = 2.0) -> None:
    """As many roundings of its precision apart, of the largest number, as `steps`."""
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is None or other is None:
            continue
        assert one.dtype == other.dtype and one.shape == other.shape
        most = steps * torch.finfo(one.dtype).eps * max(1.0, float(other.abs().max()))
        assert (one.double() - other.double()).abs().max() <= most


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
    x, more, weight = draw(1, 37, 50, times=3), draw(1, 37, 50, dtype=dtype), (1 + draw(50).abs()).to(dtype)
    made = [way.add_norm(x, more if added else None, weight, 1e-5) for way in (compiled, plain)]
    alike(*made)
    _, normed, factor = made[1]
    grads = draw(1, 37, 50), draw(1, 37, 66, dtype=dtype)[..., :50]  # the left part of something wider
    wanted = dtype if added else None
    alike(*(way.norm_back(*grads, normed, weight, factor, wanted) for way in (compiled, plain)), steps=4)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_gates(dtype: torch.dtype):
    both, grad = draw(1, 37, 2 * 50, dtype=dtype, times=6), draw(1, 37, 66, dtype=dtype)[..., :50]
    both[0, 0, :4] = torch.tensor([-200.0, 200.0, -88.0, 88.0])
    exact = [both.double(), grad.double()]
    alike([compiled.gate(both)], [plain.gate(exact[0]).to(dtype)])
    alike([compiled.gate_back(both, grad)], [plain.gate_back(*exact).to(dtype)])


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_turns_there_and_back(dtype: torch.dtype, layout: Layout):
    positions = sum(seq for seq, _ in layout.sizes)
    product, rotary = draw(positions, 8 * HEADS.dim, dtype=dtype), angles(positions, dtype)
    alike(*(way.turned(product, rotary, layout) for way in (compiled, plain)), steps=4)
    slopes = tuple(draw(len(part), dtype=dtype) for part in layout.room(product))
    copies = [tuple(part.clone() for part in slopes) for _ in range(2)]
    made = [
        [way.turned_back(parts, rotary, layout)] for way, parts in zip((compiled, plain), copies, strict=True)
    ]
    alike(*made, steps=4)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_attention(dtype: torch.dtype, layout: Layout):
    positions = sum(seq for seq, _ in layout.sizes)
    parts = plain.turned(draw(positions, 8 * HEADS.dim, dtype=dtype), angles(positions, dtype), layout)
    grad, result = (draw(positions, HEADS.queries, HEADS.dim, dtype=dtype) for _ in range(2))
    pulled = [way.pulled(grad, result, layout) for way in (compiled, plain)]
    alike(pulled[:1], pulled[1:])
    for (q, k, v), (seq, ahead) in zip(layout.each(parts), layout.sizes, strict=True):
        mask = masked(seq, ahead, dtype)
        (seen, total), (wanted, _) = (way.attend(q, k, v[..., :-2], mask, 0.25) for way in (compiled, plain))
        alike([seen], [wanted])
        queries, bent = q.view(HEADS.keys, -1, HEADS.dim), draw(HEADS.keys, 2 * seq, seq + ahead, dtype=dtype)
        of = (queries, k, mask, 0.25, total)
        made = [way.slopes(*of[:2], bent.clone(), *of[2:]) for way in (compiled, plain)]
        alike(*made, steps=4)
        hidden = mask.bool().repeat(HEADS.keys, 2, 1)
        assert not made[0][0][hidden].any() and not made[0][1][hidden].any()


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_words_are_counted_slice_by_slice(dtype: torch.dtype):
    hidden, weight, targets = draw(9, 30, dtype=dtype), draw(301, 30, dtype=dtype), torch.arange(9) * 30
    sums = [Tally(torch.zeros(9), targets.clone(), torch.zeros(9)) for _ in range(2)]
    for start in range(0, 301, 100):
        logits = hidden @ weight[start : start + 100].t()
        ways = zip((compiled, plain), sums, strict=True)
        alike(*(way.tally(logits.clone(), targets, so_far, start) for way, so_far in ways))
    assert torch.equal(sums[0].likeliest, sums[1].likeliest)
    alike(sums[0][::2], sums[1][::2], steps=8)

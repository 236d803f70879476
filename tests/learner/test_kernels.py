"""Each gradient worked out by hand, against finite differences in float64 and against torch's own operations."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu

from learner.kernels import (
    Attention,
    Heads,
    Layer,
    Linears,
    LowRankLinears,
    Norm,
    Scale,
    Sight,
    TokenLogprobs,
    through,
)

HEADS, HIDDEN, INNER, SCALE = Heads(4, 2, 4), 6, 5, 0.5
SHAPES = (
    (HIDDEN, (16, 8, 8)),
    (16, (HIDDEN,)),
    (HIDDEN, (INNER, INNER)),
    (INNER, (HIDDEN,)),
)
"""What each group of a layer's linears takes and gives."""
GIVEN = torch.Generator()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    GIVEN.manual_seed(4)


def draw(*shape: int, wanted: bool = False) -> Tensor:
    return (0.5 * torch.randn(*shape, generator=GIVEN, dtype=torch.float64)).requires_grad_(wanted)


def linears_of(
    weights: Sequence[Tensor], factors: Sequence[Tensor], scale: float, bias: Tensor | None = None
) -> Linears:
    """factors: A and B of each weight in turn."""
    downs, ups = ([factor.detach() for factor in factors[start::2]] for start in (0, 1))
    matrix = torch.cat([torch.cat([*weights]), torch.block_diag(*(scale * b for b in ups))], 1)
    return Linears(matrix, [len(b) for b in ups], bias, torch.cat(downs), scale)


def plain(
    x: Tensor, weights: Sequence[Tensor], factors: Sequence[Tensor], scale: float, bias: Tensor | None = None
) -> Tensor:
    """Side by side, as PEFT has them."""
    each = zip(weights, factors[::2], factors[1::2], strict=True)
    made = torch.cat([x @ w.t() + scale * (x @ a.t()) @ b.t() for w, a, b in each], -1)
    return made if bias is None else made + bias


def factors_of(ins: int, outs: Sequence[int]) -> list[Tensor]:
    return [draw(*shape, wanted=True) for out in outs for shape in ((2, ins), (out, 2))]


def test_words_by_gradcheck() -> None:
    targets = torch.tensor([0, 3, 8, 3, 1])
    assert gradcheck(TokenLogprobs.apply, (draw(5, 4, wanted=True), draw(9, 4), targets))


def test_norms_by_gradcheck_and_as_torch_has_them() -> None:
    x, scale = draw(2, 3, 4, wanted=True), Scale(draw(4), 1e-5)
    assert gradcheck(lambda x: Norm.apply(x, scale), (x,))
    assert torch.allclose(Norm.apply(x, scale), rms_norm(x, (4,), *scale))


def test_linears_by_gradcheck_and_as_peft_has_them() -> None:
    x, bias = draw(2, 3, 4, wanted=True), draw(8)
    weights, factors = [draw(5, 4), draw(3, 4)], factors_of(4, (5, 3))

    def several(x: Tensor, *factors: Tensor) -> Tensor:
        return LowRankLinears.apply(x, linears_of(weights, factors, 0.5, bias), *factors)

    assert gradcheck(several, (x, *factors))
    assert torch.allclose(several(x, *factors), plain(x, weights, factors, 0.5, bias))


def some_sight(seqs: Sequence[int], aheads: Sequence[int]) -> Sight:
    angles = draw(sum(seqs), HEADS.dim // 2)
    hidden = [
        torch.ones(n, n + ahead).tril(ahead).bool().logical_not()
        for n, ahead in zip(seqs, aheads, strict=True)
    ]
    masks = [torch.zeros(of.shape, dtype=torch.float64).masked_fill_(of, -1e300) for of in hidden]
    return Sight((angles.cos(), angles.sin()), masks)


def turned(x: Tensor, sight: Sight) -> Tensor:
    """[positions, heads, dim], as complex numbers turn."""
    z = torch.complex(*x.chunk(2, -1)) * torch.complex(*sight.rotary)[:, None]
    return torch.cat([z.real, z.imag], -1)


def attended(product: Tensor, sight: Sight) -> Tensor:
    """By torch's own attention, row by row."""
    counts = (HEADS.queries, HEADS.keys, HEADS.keys)
    q, k, v = product.unflatten(1, (-1, HEADS.dim)).split(counts, 1)
    q, k = turned(q, sight), turned(k, sight)
    start, made, first = 0, list[Tensor](), len(sight.masks[0])
    for mask in sight.masks:
        seq, ahead = len(mask), mask.shape[1] - len(mask)
        own = torch.arange(start, start + seq)
        seen = torch.cat([torch.arange(first)[:ahead], own])
        of = (q[own].transpose(0, 1), k[seen].transpose(0, 1), v[seen].transpose(0, 1))
        made.append(
            scaled_dot_product_attention(*of, mask, scale=SCALE, enable_gqa=True).transpose(0, 1).flatten(1)
        )
        start += seq
    return torch.cat(made)


class Case:
    """Two layers, the second with biases, and what they are made of."""

    def __init__(self) -> None:
        ones = [1 + draw(HIDDEN).abs() for _ in range(4)]
        self.scales = [(Scale(first, 1e-5), Scale(second, 1e-5)) for first, second in (ones[:2], ones[2:])]
        self.weights = [[[draw(out, ins) for out in outs] for ins, outs in SHAPES] for _ in range(2)]
        self.factors = [[factors_of(ins, outs) for ins, outs in SHAPES] for _ in range(2)]
        self.biases = [[None] * len(SHAPES), [draw(sum(outs)) for _, outs in SHAPES]]
        self.flat = [factor for layer in self.factors for group in layer for factor in group]

    def layers(self, factors: Sequence[Tensor] = ()) -> list[Layer]:
        """factors: of every adapter, or none."""
        left, made = iter(factors), list[Layer]()
        for scales, weights, biases in zip(self.scales, self.weights, self.biases, strict=True):
            groups = list[Linears]()
            for group, bias in zip(weights, biases, strict=True):
                own = [next(left) for _ in range(2 * len(group))] if factors else []
                bare = Linears(torch.cat(group), [len(w) for w in group], bias)
                groups.append(linears_of(group, own, 0.5, bias) if own else bare)
            qkv, out, up, down = groups
            made.append(Layer(scales, (qkv, out, up, down), Attention(HEADS, SCALE)))
        return made

    def by_layer(self, factors: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        """The factors of each layer."""
        half = len(factors) // 2
        return [factors[:half], factors[half:]]

    def run(self, states: Tensor, sight: Sight, factors: Sequence[Tensor]) -> Tensor:
        return through(self.layers(factors), states, sight, self.by_layer(factors))

    def plainly(self, states: Tensor, sight: Sight, scale: float = 0.5) -> Tensor:
        """By torch's own operations. scale: of what adapters add."""
        each = zip(self.scales, self.weights, self.factors, self.biases, strict=True)
        for (first, second), weights, factors, biases in each:
            qkv, out, up, down = zip(weights, factors, [scale] * 4, biases, strict=True)
            seen = attended(plain(rms_norm(states, (HIDDEN,), *first), *qkv), sight)
            states = states + plain(seen, *out)
            a, b = plain(rms_norm(states, (HIDDEN,), *second), *up).chunk(2, 1)
            states = states + plain(silu(a) * b, *down)
        return states


@pytest.mark.parametrize("sizes", [((3, 2), (0, 0)), ((3, 2, 1), (0, 3, 3))])
def test_layers_by_gradcheck_and_as_torch_has_them(sizes: tuple[Sequence[int], Sequence[int]]) -> None:
    sight, case = some_sight(*sizes), Case()
    states = draw(sum(sizes[0]), HIDDEN, wanted=True)

    def run(states: Tensor, *factors: Tensor) -> Tensor:
        return case.run(states, sight, factors)

    want = case.plainly(states, sight)
    assert torch.allclose(run(states, *case.flat), want)
    with torch.no_grad():
        assert torch.equal(through(case.layers(case.flat), states, sight), run(states, *case.flat))
    assert gradcheck(run, (states, *case.flat))


def test_of_states_that_nobody_trains_no_gradient_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    sight, case, widths, backwards = some_sight((3, 2), (0, 0)), Case(), list[int](), Linears.backwards
    states, weights = draw(5, HIDDEN), draw(5, HIDDEN)

    def noted(linears: Linears, *given: Tensor, **more: bool) -> tuple[Tensor, list[Tensor]]:
        made = backwards(linears, *given, **more)
        widths.append(made[0].shape[1])
        return made

    def grads(states: Tensor) -> tuple[Tensor, ...]:
        made = case.run(states, sight, case.flat)
        return torch.autograd.grad((made * weights).sum(), case.flat)

    want = grads(states.clone().requires_grad_())
    monkeypatch.setattr(Linears, "backwards", noted)
    assert all(map(torch.equal, grads(states), want))
    assert widths == [INNER, HIDDEN, 16, HIDDEN] + [INNER, HIDDEN, 16, 0]  # from the last linear to the first


def test_an_adapter_taken_in_before_backward_is_noticed() -> None:
    sight, case = some_sight((3, 2), (0, 0)), Case()
    layers = case.layers(case.flat)
    made = through(layers, draw(5, HIDDEN), sight, case.by_layer(case.flat))
    layers[1].linears[2].matrix[:, -1] *= 2
    with pytest.raises(AssertionError, match="taken in between forward and backward"):
        made.sum().backward()


def test_without_an_adapter_a_layer_is_the_bases() -> None:
    sight, case = some_sight((3, 2), (0, 0)), Case()
    states = draw(5, HIDDEN)
    assert torch.allclose(through(case.layers(), states, sight), case.plainly(states, sight, scale=0))


def test_a_small_update_of_a_bfloat16_base_is_not_lost() -> None:
    x, weight, down = (draw(*shape).bfloat16() for shape in ((4000, 16), (16, 16), (2, 16)))
    up = torch.full((16, 2), 1e-3).bfloat16()  # moves hardly a weight by half of its last bit
    bent, straight = (
        LowRankLinears.apply(x, linears_of([weight], [down, b], 1.0), down, b) for b in (up, 0 * up)
    )
    want = linear(linear(x.double(), down.double()), up.double())
    came = ((bent - straight).double() * want).sum() / want.square().sum()
    assert came == pytest.approx(1, abs=0.1)

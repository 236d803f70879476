"""Layers of Llama, each with its gradients as one autograd function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from learner.kernels.attention import Attention, Seen, Sight
from learner.kernels.linears import Linears
from learner.kernels.passes import passes


class Scale(NamedTuple):
    """A norm's: w, frozen and nowhere 0, and eps."""

    weight: Tensor
    eps: float


class Kept(NamedTuple):
    """What a layer keeps for its gradients: each normed input with its one number a position, what attention gave, and a and b of the
    gate, whose product is made again."""

    normed: Tensor
    factor: Tensor
    mixed: Tensor
    normed_again: Tensor
    factor_again: Tensor
    both: Tensor
    narrow: Tensor
    """The last linear's x A^T."""
    seen: Seen

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of it, one after the other."""
        return *self[:-1], *self.seen.parts, *self.seen.totals

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Kept:
        """What `tensors` gave."""
        normed, factor, mixed, again, factor_again, both, narrow, query, key, value, *totals = tensors
        seen = Seen((query, key, value), totals)
        return cls(normed, factor, mixed, again, factor_again, both, narrow, seen)


@dataclass(frozen=True)
class Layer:
    """h + attention(norm(h)), then h + mlp(norm(h)) with the mlp silu(a) b through a last linear (Shazeer 2020, SwiGLU, arXiv 2002.05202,
    eq. 5). h is the sum of two: what was added up so far, and what the layer before has to add to it, unless that is None."""

    norms: tuple[Scale, Scale]
    linears: tuple[Linears, Linears, Linears, Linears]
    """Of queries, keys and values; of what attention gives; of a and b; of the gate's product."""
    attention: Attention

    def forwards(self, states: Tensor, more: Tensor | None, sight: Sight) -> tuple[Tensor, Tensor, Kept]:
        """The two to be added up, and what is kept; every one [positions, numbers]."""
        (first, second), (qkv, out, up, down) = self.norms, self.linears
        way = passes(first.weight)
        states, normed, factor = way.add_norm(states, more, *first, room=qkv.room)
        mixed, seen = self.attention.forwards(qkv.forwards(normed), sight, out.room)
        states, again, factor_again = way.add_norm(states, out.forwards(mixed), *second, room=up.room)
        both = up.forwards(again)
        opened = way.gate(both, down.room)
        result = down.forwards(opened)
        narrow = down.parted(opened)[1].clone()
        return states, result, Kept(normed, factor, mixed, again, factor_again, both, narrow, seen)

    def backwards(
        self, given: Tensor, more: Tensor, kept: Kept, sight: Sight, wanted: bool
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The gradients on `forwards`' two inputs, if they are wanted, and on each A and B in turn, from those on its two results."""
        (first, second), (qkv, out, up, down) = self.norms, self.linears
        way = passes(first.weight)
        grad, of_down = down.backwards(more, way.gate(kept.both), kept.narrow)
        x, narrow = up.parted(kept.normed_again)
        grad, of_up = up.backwards(way.gate_back(kept.both, grad), x, narrow)
        given, more = way.norm_back(given, grad, x, second.weight, kept.factor_again, more.dtype)
        x, narrow = out.parted(kept.mixed)
        grad, of_out = out.backwards(more, x, narrow)
        grad = self.attention.backwards(grad, x, kept.seen, sight)
        x, narrow = qkv.parted(kept.normed)
        grad, of_qkv = qkv.backwards(grad, x, narrow, wanted=wanted)
        if wanted:
            given, more = way.norm_back(given, grad, x, first.weight, kept.factor, more.dtype)
        return given, more, [*of_qkv, *of_out, *of_up, *of_down]


class LowRankLayer(torch.autograd.Function):
    """`Layer` with an adapter on all of its linears. factors: A and B of each linear in turn. What it gives is the two to be added up."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, more: Tensor | None, layer: Layer, sight: Sight, *factors: Tensor
    ) -> tuple[Tensor, Tensor]:
        states, result, kept = layer.forwards(states, more, sight)
        ctx.save_for_backward(*kept.tensors)
        ctx.layer, ctx.sight, ctx.versions = layer, sight, _versions(layer)
        return states, result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        assert ctx.versions == _versions(ctx.layer), "an adapter was taken in between forward and backward"
        wanted, adds = ctx.needs_input_grad[:2]
        given, more, factors = ctx.layer.backwards(*grads, Kept.of(ctx.saved_tensors), ctx.sight, wanted)
        return given if wanted else None, more if adds else None, None, None, *factors


def through(
    layers: Iterable[Layer], states: Tensor, sight: Sight, factors: Sequence[Sequence[Tensor]] = ()
) -> Tensor:
    """What the layers make of the states, [positions, hidden]. factors: of each layer those of `LowRankLayer`; none: there are no gradients."""
    more: Tensor | None = None
    for number, layer in enumerate(layers):
        if factors:
            states, more = LowRankLayer.apply(states, more, layer, sight, *factors[number])
        else:
            states, more = layer.forwards(states, more, sight)[:2]
    return states if more is None else _sum(states, more)


class Norm(torch.autograd.Function):
    """w x / sqrt(mean(x^2) + eps) in w's precision; keeps that, which the product after it keeps as well, and one number a position.
    [..., hidden] -> [..., hidden].

    Zhang and Sennrich 2019, arXiv 1910.07467, eq. 4. With r = 1 / sqrt(mean(x^2) + eps), n the width and y what it gives, the
    gradient is r (g w - (y / w) (g . y) / n).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Scale) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        _, normed, ctx.factor = passes(scale.weight).add_norm(flat, None, *scale)
        ctx.save_for_backward(normed, scale.weight)
        ctx.precision = x.dtype
        return normed.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        normed, weight = ctx.saved_tensors
        nothing = normed.new_zeros(normed.shape, dtype=ctx.precision)
        grad = grads[0].reshape(normed.shape)
        wanted, _ = passes(weight).norm_back(nothing, grad, normed, weight, ctx.factor, ctx.precision)
        return wanted.view(grads[0].shape), None


def _versions(layer: Layer) -> list[int]:
    """Of what is not watched: each counts how often it was written."""
    matrices = [matrix for of in layer.linears for matrix in (of.matrix, of.downs)]
    return [matrix._version for matrix in matrices if matrix is not None]


def _sum(states: Tensor, more: Tensor) -> Tensor:
    """Of two precisions torch makes it three times as slowly as it widens and adds."""
    return states + more if more.dtype == states.dtype else more.to(states.dtype).add_(states)

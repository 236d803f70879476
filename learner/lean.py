"""Llama's layers, run in fewer passes over the activations; what they compute is the same.

Only layers of exactly Llama's classes are run so, with torch's own attention, silu, no norm that has a weight of 0, and adapters on all of
their linears or on none. Others keep their own forwards, as right, slower, and with attention over a batch as one row, in memory that
grows as the square of its positions (dpo.token_budget).
Measured in docs/experiments.md ("The learner's core").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.lora import Linear
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from learner.kernels import (
    Attention,
    Heads,
    Layer,
    Linears,
    LowRankLinears,
    Norm,
    Scale,
    Sight,
    through,
)
from learner.packed import Packed
from learner.rows import Batch

States = Float[Tensor, "positions hidden"]

GROUPS = (
    ("self_attn", "q_proj", "k_proj", "v_proj"),
    ("self_attn", "o_proj"),
    ("mlp", "gate_proj", "up_proj"),
    ("mlp", "down_proj"),
)
"""Linears of a layer that read the same input, in the order of `Layer`."""


@dataclass(frozen=True)
class Fused:
    """A layer that is run by `through`."""

    packs: tuple[Packed, ...]
    norms: tuple[Scale, Scale]
    attention: Attention

    @property
    def layer(self) -> Layer:
        """With the adapter that is worn."""
        qkv, out, up, down = (pack.linears for pack in self.packs)
        return Layer(self.norms, (qkv, out, up, down), self.attention)

    @property
    def factors(self) -> list[Tensor]:
        """A and B of each linear in turn, of the adapter that is worn."""
        return [factor for pack in self.packs for factor in pack.factors]


class Lean:
    """The layers of a causal model, `core`, whose linears may bear adapters."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self._run: list[Fused | nn.Module] = [_fused(layer) or layer for layer in core.layers]
        whole = [run for run in self._run if isinstance(run, Fused)]
        apart = [run for run in self._run if not isinstance(run, Fused)]
        self.packed = [
            *(pack for run in whole for pack in run.packs),
            *(pack for layer in apart for pack in _linear_by_linear(layer)),
        ]
        for norm in core.modules():
            if type(norm) is LlamaRMSNorm:
                norm.forward = (_norm if norm.weight.all() else _norm_with_zeros).__get__(norm)
        self.wide = core.config.model_type == "llama"
        """Whether norms take what is added up in float32, and give what the next product takes."""

    def __call__(self, states: States, batch: Batch, first: int, end: int) -> States:
        """What layers `first` to `end`, without it, make of the states that enter them, with the adapter that is worn."""
        rotary = self._core.rotary_emb(self._core.embed_tokens.weight, batch.positions[None])
        for kind, group in groupby(self._run[first:end], type):
            run: Callable[..., States] = _together if kind is Fused else self._one_by_one
            states = run(list(group), states, batch, rotary)
        return states

    def _one_by_one(self, layers: Any, states: States, batch: Batch, rotary: tuple[Tensor, Tensor]) -> States:
        mask = _whole_mask(batch, self._core.embed_tokens.weight.dtype)
        for layer in layers:
            states = layer(states[None], attention_mask=mask, position_embeddings=rotary)[0]
        return states


def _together(layers: Sequence[Fused], states: States, batch: Batch, rotary: tuple[Tensor, Tensor]) -> States:
    cos, sin = (part[0, :, : part.shape[-1] // 2].contiguous() for part in rotary)
    sight = Sight((cos, sin), tuple(_added(mask, cos.dtype) for mask in batch.masks))
    made = [fused.layer for fused in layers]
    factors = [fused.factors for fused in layers]
    if not torch.is_grad_enabled() or not any(factors):
        assert not (torch.is_grad_enabled() and states.requires_grad), "no adapter is worn: nothing to learn"
        return through(made, states, sight)
    assert all(factors), "the adapter that is worn does not cover all of these layers"
    return through(made, states, sight, factors)


def _fused(layer: Any) -> Fused | None:
    """The layer, if all of it is as `Layer` has it."""
    if type(layer) is not LlamaDecoderLayer or layer.mlp.config.hidden_act != "silu":
        return None
    attention, norms = layer.self_attn, (layer.input_layernorm, layer.post_attention_layernorm)
    groups = [[getattr(getattr(layer, part), name) for name in names] for part, *names in GROUPS]
    kinds = {type(module) for group in groups for module in group}
    if kinds not in ({Linear}, {nn.Linear}) or not all(norm.weight.all() for norm in norms):
        return None
    if attention.config._attn_implementation != "sdpa":
        return None
    queries, keys = (m.out_features // attention.head_dim for m in (attention.q_proj, attention.k_proj))
    first, second = (Scale(norm.weight, norm.variance_epsilon) for norm in norms)
    heads = Heads(queries, keys, attention.head_dim)
    return Fused(tuple(map(Packed, groups)), (first, second), Attention(heads, attention.scaling))


def _linear_by_linear(layer: nn.Module) -> Iterator[Packed]:
    """Of each linear that bears adapters, after which it has its forward of this file."""
    for module in layer.modules():
        if type(module) is Linear:
            packed: Any = Packed([module])
            module.packed = packed
            module.forward = _linear.__get__(module)
            yield packed


def _linear(self: Any, x: Tensor) -> Tensor:
    """PEFT's LoRA linear without its dropout, mixing and casts, which are not used here."""
    linears: Linears = self.packed.linears
    if linears.downs is None:
        return linears.forwards(x)
    result: Tensor = LowRankLinears.apply(x, linears, *self.packed.factors)
    return result


def _norm(self: Any, x: Tensor) -> Tensor:
    result: Tensor = Norm.apply(x, Scale(self.weight, self.variance_epsilon))
    return result


def _norm_with_zeros(self: Any, x: Tensor) -> Tensor:
    """What a zero weight gives says nothing of what it took."""
    unit = x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()
    return (unit * self.weight).to(self.weight.dtype)


def _whole_mask(batch: Batch, dtype: torch.dtype) -> Float[Tensor, "1 1 positions positions"]:
    """Who sees whom, of the batch as a single row."""
    whole = torch.block_diag(*(mask[:, -len(mask) :] for mask in batch.masks)).bool()
    if batch.shared:
        whole[:, : batch.shared] = torch.cat([mask[:, : batch.shared] for mask in batch.masks])
    return _added(whole, dtype)[None, None]


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a position may look at another, else very low."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)

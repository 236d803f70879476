"""Forwards of Llama's own modules that pass fewer times over the activations; what they compute is the same.

Only modules of exactly these classes are given them: another model's keep their own, as right, slower, and with attention over a batch
as one row, in memory that grows as the square of its positions (dpo.token_budget).
Measured in docs/experiments.md ("The learner's core").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.lora import Linear
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, LlamaMLP, LlamaRMSNorm

from learner.kernels import AddNorm, Attend, Gate, Heads, LowRankMlp
from learner.packed import Packed, together
from learner.rows import Batch


def slim(model: nn.Module) -> list[Packed]:
    """Give every module that is known here its forward of this file; the matrices that adapters must be worn by."""
    made, within = list[Packed](), set[nn.Module]()
    modules: Iterable[Any] = model.modules()
    for module in modules:
        forward = _forward_of(module)
        if forward is None:
            continue
        module.forward = forward.__get__(module)
        names = GROUPS.get(type(module), ())
        group = [module] if type(module) is Linear else [getattr(module, name) for name in names]
        if group and module not in within:
            pack: Any = together(group)
            module.packed = pack
            if isinstance(pack, Packed):
                made.append(pack)
                within.update(group)
    return made


def _forward_of(module: Any) -> Any:
    """Its forward of this file, or None."""
    kind = type(module)
    if kind is LlamaRMSNorm and not module.weight.all():
        return _norm_with_zeros
    other = (
        (kind is LlamaAttention and not _own(module.config))
        or (kind is LlamaMLP and module.config.hidden_act != "silu")
        or (kind is LlamaDecoderLayer and not all(norm.weight.all() for norm in _norms(module)))
    )
    return None if other else FORWARDS.get(kind)


def _norms(layer: Any) -> tuple[Any, Any]:
    return layer.input_layernorm, layer.post_attention_layernorm


def _own(config: Any) -> bool:
    """Whether attention is that of this file."""
    return config.model_type == "llama" and config._attn_implementation == "sdpa"


def wide_states(config: Any) -> bool:
    """Whether norms are those of this file, which take float32 and give what the next product takes."""
    return config.model_type == "llama"


Masks = tuple[Float[Tensor, "seq seen"], ...]


def sight(config: Any, batch: Batch, dtype: torch.dtype) -> Masks | Float[Tensor, "1 1 positions positions"]:
    """Who sees whom, by row: zero where a position may look at another, else very low. Other models' own attention gets one
    mask for the batch as a single row."""
    if not _own(config):
        whole = torch.block_diag(*(mask[:, -len(mask) :] for mask in batch.masks)).bool()
        if batch.shared:
            whole[:, : batch.shared] = torch.cat([mask[:, : batch.shared] for mask in batch.masks])
        return _added(whole, dtype)[None, None]
    return tuple(_added(mask, dtype) for mask in batch.masks)


def turns(config: Any, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles, [positions, dim/2], once for all layers; other models' own attention gets each twice."""
    if not _own(config):
        return rotary
    cos, sin = (part[0, :, : part.shape[-1] // 2].contiguous() for part in rotary)
    return cos, sin


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def _linear(self: Any, x: Tensor) -> Tensor:
    """PEFT's LoRA linear without its dropout, mixing and casts, which are not used here."""
    result: Tensor = self.packed(x)
    return result


def _norm(self: Any, x: Tensor) -> Tensor:
    return _add_norm(x, None, self)[1]


def _add_norm(x: Tensor, more: Tensor | None, norm: Any) -> tuple[Tensor, Tensor]:
    made: tuple[Tensor, Tensor] = AddNorm.apply(x, more, norm.weight, norm.variance_epsilon)
    return made


def _norm_with_zeros(self: Any, x: Tensor) -> Tensor:
    """What a zero weight gives says nothing of what it took."""
    unit = x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()
    return (unit * self.weight).to(self.weight.dtype)


def _mlp(self: Any, x: Tensor) -> Tensor:
    first, down = self.packed, self.down_proj
    last = getattr(down, "packed", None)
    if not (first.worn and last):
        return down(Gate.apply(first(x)))
    matrices, biases = (first.matrices, last.matrices), (first.bias, last.bias)
    result: Tensor = LowRankMlp.apply(x, matrices, biases, first.scale, *first.factors, *last.factors)
    return result


def _attention(
    self: Any,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    attention_mask: Masks,
    **_: Any,
) -> tuple[Tensor, None]:
    """Row by row."""
    query, key = (part.out_features // self.head_dim for part in (self.q_proj, self.k_proj))
    heads = Heads(query, key, self.head_dim)
    seen = Attend.apply(
        self.packed(hidden_states)[0], position_embeddings, heads, self.scaling, attention_mask
    )
    return self.o_proj(seen.flatten(1)[None]), None


def _layer(
    self: Any,
    hidden_states: Tensor,
    attention_mask: Masks,
    position_embeddings: tuple[Tensor, Tensor],
    **_: Any,
) -> Tensor:
    """A layer's two additions to the states."""
    states, normed = _add_norm(hidden_states, None, self.input_layernorm)
    seen, _weights = self.self_attn(
        normed, position_embeddings=position_embeddings, attention_mask=attention_mask
    )
    states, normed = _add_norm(states, seen, self.post_attention_layernorm)
    return _plus(states, self.mlp(normed))


def _plus(states: Tensor, more: Tensor) -> Tensor:
    """Their sum; of two precisions torch makes it three times as slowly as it widens and adds."""
    return states + more if more.dtype == states.dtype else more.to(states.dtype).add_(states)


FORWARDS: dict[type, Any] = {
    Linear: _linear,
    LlamaRMSNorm: _norm,
    LlamaMLP: _mlp,
    LlamaAttention: _attention,
    LlamaDecoderLayer: _layer,
}

GROUPS: dict[type, tuple[str, ...]] = {
    LlamaAttention: ("q_proj", "k_proj", "v_proj"),
    LlamaMLP: ("gate_proj", "up_proj"),
}
"""Linears that read the same input."""

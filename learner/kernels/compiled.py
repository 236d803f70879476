"""The passes of `learner/kernels/plain.py` for a CPU, each once over memory instead of once an operation; compiled when first used.

bfloat16 comes in as 16 bits: its value is the upper half of a float32. What a pass adds up it adds in float32, and rounds once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner.kernels import attention_loops, loops
from learner.kernels.plain import Layout, Parts, Rotary, Tally


def add_norm(
    x: Tensor, more: Tensor | None, weight: Tensor, eps: float, room: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """See `plain.add_norm`."""
    _agree((x if more is None else more).shape, x.shape)
    _agree(weight.shape, x.shape[1:])
    states = x if more is None else x.new_empty(x.shape)
    normed = x.new_empty(len(x), len(weight) + room, dtype=weight.dtype)
    factor = x.new_empty(len(x), dtype=torch.float32)
    made = (_rows(states), _rows(normed), _raw(factor))
    loops.add_norm(_rows(x), None if more is None else _rows(more), _raw(weight), np.float32(eps), made)
    return states, normed, factor


def norm_back(
    given: Tensor, grad: Tensor, normed: Tensor, weight: Tensor, factor: Tensor, more: torch.dtype
) -> tuple[Tensor, Tensor]:
    """See `plain.norm_back`."""
    _agree(given.shape, grad.shape, normed.shape, (len(factor), len(weight)))
    wanted = given.new_empty(given.shape)
    narrow = wanted if more == wanted.dtype else wanted.new_empty(wanted.shape, dtype=more)
    of = (_rows(normed), _raw(weight), _raw(factor))
    loops.norm_back((_rows(given), _rows(grad)), *of, (_rows(wanted), _rows(narrow)))
    return wanted, narrow


def gate(both: Tensor, room: int = 0) -> Tensor:
    """See `plain.gate`."""
    width = both.shape[1] // 2
    _agree(2 * width, both.shape[1])
    opened = both.new_empty(len(both), width + room)
    loops.gate(_rows(both), width, _rows(opened))
    return opened


def gate_back(both: Tensor, grad: Tensor) -> Tensor:
    """See `plain.gate_back`."""
    bent = both.new_empty(both.shape)
    _agree((len(grad), 2 * grad.shape[1]), both.shape)
    loops.gate_back(_rows(both), _rows(grad), _rows(bent))
    return bent


def turned(product: Tensor, rotary: Rotary, layout: Layout) -> Parts:
    """See `plain.turned`."""
    parts = layout.room(product, more=2)
    angles = _angles(rotary, layout, len(product))
    attention_loops.turn(_halves(product, layout), angles, _sizes(layout), _by_head(parts, layout, 2))
    return parts


def turned_back(parts: Parts, rotary: Rotary, layout: Layout) -> Tensor:
    """See `plain.turned_back`."""
    heads, sizes, arrays = layout.heads, _sizes(layout), _by_head(parts, layout, 0)
    result = parts[0].new_empty(len(rotary[0]), (heads.queries + 2 * heads.keys) * heads.dim)
    if sizes[0][:, 1].any():
        for part in arrays[1:]:
            attention_loops.add_seen(part.reshape(len(part), -1), sizes[0], heads.keys)
    angles = _angles(rotary, layout, len(result))
    attention_loops.turn_back(arrays, angles, sizes, _halves(result, layout))
    return result


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """See `plain.attend`."""
    made = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q[None], k[None], v[None], attn_mask=mask[None, None], scale=scale
    )
    return made[0][0], made[1][0]


def pulled(grad: Tensor, result: Tensor, layout: Layout) -> Tensor:
    """See `plain.pulled`."""
    heads, wider = layout.heads, layout.heads.dim + 2
    _agree(grad.shape, result.shape, (sum(seq for seq, _ in layout.sizes), heads.queries * heads.dim))
    given = grad.new_empty(len(grad) * heads.queries * wider)
    attention_loops.pull(_rows(grad), _rows(result), _sizes(layout), _raw(given.view(-1, wider)))
    return given


def slopes(
    q: Tensor, k: Tensor, bent: Tensor, mask: Tensor, scale: float, total: Tensor
) -> tuple[Tensor, Tensor]:
    """See `plain.slopes`. A product of bfloat16 ends with 8 bits; the same product less what it ended with has the next 8."""
    keys = k.transpose(1, 2)
    scores = torch.bmm(q, keys)
    rest = torch.baddbmm(scores, q, keys, beta=-1) if q.dtype == torch.bfloat16 else None
    _agree(scores.shape, bent.shape)
    _agree(mask.shape, (total.shape[1], scores.shape[2]))
    _agree(total.numel(), scores.shape[0] * scores.shape[1])
    more = None if rest is None else _raw(rest)
    attention_loops.slopes(_raw(scores), more, _raw(mask), np.float32(scale), _raw(total), _raw(bent))
    return scores, bent


def tally(logits: Tensor, targets: Tensor, so_far: Tally, start: int) -> tuple[Tensor, Tensor]:
    """See `plain.tally`."""
    _agree(targets.shape, logits.shape[:1], *(part.shape for part in so_far))
    shrink = torch.empty_like(so_far.high)
    sums = (_raw(so_far.high), _raw(so_far.likeliest), _raw(so_far.rest))
    loops.tally(_raw(logits), _raw(targets), start, sums, _raw(shrink))
    return shrink, logits


def _agree(*sizes: object) -> None:
    """A loop would read what is not there."""
    if any(size != sizes[0] for size in sizes[1:]):
        raise ValueError(f"sizes that do not fit each other: {', '.join(map(str, sizes))}")


def _angles(rotary: Rotary, layout: Layout, positions: int) -> tuple[Any, Any]:
    """Of all positions and all of a head."""
    _agree(sum(seq for seq, _ in layout.sizes), positions)
    _agree(*(part.shape for part in rotary), (positions, layout.heads.dim // 2))
    return _raw(rotary[0]), _raw(rotary[1])


def _rows(x: Tensor) -> Any:
    """[rows, width], or wider where it is the left part of a matrix: a copy would be one more pass."""
    count, step = len(x), x.stride(0)
    left = step > x.shape[1] and x.stride(1) == 1 and not x.storage_offset()
    if left and count * step * x.itemsize <= x.untyped_storage().nbytes():
        x = x.as_strided((count, step), (step, 1))
    return _raw(x)


def _halves(product: Tensor, layout: Layout) -> Any:
    return _raw(product.view(len(product), -1, 2, layout.heads.dim // 2))


def _by_head(parts: Parts, layout: Layout, more: int) -> tuple[Any, Any, Any]:
    """Queries and keys by heads and positions in halves, values by these with so many numbers more."""
    dim = layout.heads.dim
    query, key = (_raw(part.view(-1, 2, dim // 2)) for part in parts[:2])
    return query, key, _raw(parts[2].view(-1, dim + more))


def _sizes(layout: Layout) -> tuple[Any, int, int]:
    return np.array(layout.sizes), layout.heads.queries, layout.heads.keys


def _raw(x: Tensor) -> Any:
    """Its memory, or a copy of it in order; bfloat16 as bits."""
    x = x.detach() if x.requires_grad else x
    x = x if x.is_contiguous() else x.contiguous()
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()

"""LoRA on CPU: rows are grouped by adapter once per batch, and each group is multiplied once.

Replaces vLLM 0.32's PunicaWrapperCPU, in which a row without an adapter (index −1) reads the *last* slot, and every
row gathers a copy of its weights. It can go when upstream skips −1 and groups rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from serving.vllm_plugin.packing import Packed, pack
from serving.vllm_plugin.threads import SMALL_PRODUCT, one_thread

SPARSE = 8
"""A group whose rows lie further apart than one in so many is gathered; a denser one is multiplied where it lies."""


@dataclass(frozen=True)
class Group:
    """Rows of one slot. span: from its first row to its last. others: [rows of span, 1], true for rows in between
    that are not its own; None where there are none. rows: its rows (long) where they are too far apart for that."""

    slot: int
    span: slice
    others: Tensor | None = None
    rows: Tensor | None = None

    def add(self, y: Tensor, x: Tensor, a: Tensor, b: Tensor) -> None:
        """y += (x a) b in the group's rows, in place. Shapes: y [n, out], x [n, in], a [in, k], b [k, out].

        A row of another slot within the span gets +0·b, which leaves its value: filled, not multiplied by a mask, since
        its x a may overflow; b is finite, nothing is computed with an adapter before its identity check saw to that.
        """
        if self.rows is not None:
            rows = self.rows
            sums = torch.addmm(y.index_select(0, rows), x.index_select(0, rows) @ a, b)
            y.index_copy_(0, rows, sums)
            return
        shrunk = x[self.span] @ a
        y[self.span].addmm_(shrunk if self.others is None else shrunk.masked_fill_(self.others, 0.0), b)


def group_rows(indices: Tensor) -> list[Group]:
    """A group for every slot that occurs in `indices` (long, one per row); rows with −1 belong to none."""
    return [_group(slot, indices) for slot in torch.unique(indices).tolist() if slot >= 0]


def _group(slot: int, indices: Tensor) -> Group:
    own = indices == slot
    rows = own.nonzero().flatten()
    span = slice(int(rows[0]), int(rows[-1]) + 1)
    length = span.stop - span.start
    if length == len(rows):
        return Group(slot, span)
    if length > SPARSE * len(rows):
        return Group(slot, span, rows=rows)
    return Group(slot, span, others=~own[span].unsqueeze(1))


class GroupedPunicaWrapper(PunicaWrapperCPU):
    """y[rows of slot] += (x[rows] Aᵀ) Bᵀ for each slot in the batch; other rows of y keep their values."""

    groups: Sequence[Group] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._layers: dict[int, Packed] = {}

    def update_metadata(
        self, mapping: Any, lora_index_to_id: list[int | None], *args: Any, **kwargs: Any
    ) -> None:
        """Called by vLLM whenever the batch, or what lies in the slots, has changed."""
        super().update_metadata(mapping, lora_index_to_id, *args, **kwargs)
        self.groups = group_rows(self.token_lora_indices)

    def add_lora_linear(
        self, y: Tensor, x: Tensor, lora_a_stacked: tuple[Tensor, ...], lora_b_stacked: tuple[Tensor, ...],
        scale: float, output_slices: tuple[int, ...], **kwargs: Any,
    ) -> None:  # fmt: skip
        """Packed layers (q, k, v; gate, up) have one A and B per slice of the output.

        Shapes: y [n, Σ output_slices], x [n, in], A [slots, 1, r, in], B [slots, 1, out, r]; all of one dtype.
        """
        if not self.groups:
            return
        key = id(lora_a_stacked[0])
        packed = self._layers.get(key) or self._layers.setdefault(key, pack(lora_a_stacked, lora_b_stacked))
        with one_thread(x.shape[0] * packed.size <= SMALL_PRODUCT):
            for group in self.groups:
                b = packed.b[group.slot]
                group.add(y, x, packed.a[group.slot], b if scale == 1.0 else b * scale)

    def add_lora_logits(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: adapters with tensors on the output head are refused (49,152 × r a row, even for base)."""

    def add_lora_embedding(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: adapters with tensors on embeddings are refused."""

    def add_shrink(self, *args: Any, **kwargs: Any) -> None:
        """Only fully sharded layers call it, and the stock operation behind it leaks: refused."""
        raise NotImplementedError("fully sharded LoRA is not supported on CPU; leave fully_sharded_loras off")

    def add_expand(self, *args: Any, **kwargs: Any) -> None:
        """As `add_shrink`."""
        raise NotImplementedError("fully sharded LoRA is not supported on CPU; leave fully_sharded_loras off")

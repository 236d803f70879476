"""LoRA on CPU: rows are grouped by adapter once per batch, and each group is multiplied once.

Replaces vLLM 0.32's PunicaWrapperCPU, in which a row without an adapter (index −1) reads the *last* slot, and every
row gathers a copy of its weights. It can go when upstream skips −1 and groups rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from serving.vllm_plugin.packing import Packed, pack

Rows = slice | Tensor
Groups = list[tuple[int, Rows]]


def group_rows(indices: Tensor) -> Groups:
    """(slot, rows) for every slot that occurs in `indices` (long, one per row); rows with −1 belong to none.

    Rows are a slice where they lie together, so that the common case of one adapter needs no gather.
    """
    groups: Groups = []
    for slot in torch.unique(indices).tolist():
        if slot < 0:
            continue
        rows = (indices == slot).nonzero().flatten()
        first, last = int(rows[0]), int(rows[-1])
        together = last - first + 1 == len(rows)
        groups.append((slot, slice(first, last + 1) if together else rows))
    return groups


def add_rows(y: Tensor, rows: Rows, shrunk: Tensor, b: Tensor) -> None:
    """y[rows] += shrunk @ b, in place. Shapes: y [n, out], shrunk [rows, k], b [k, out]."""
    if isinstance(rows, slice):
        y[rows].addmm_(shrunk, b)
    else:
        y.index_add_(0, rows, shrunk @ b)


class GroupedPunicaWrapper(PunicaWrapperCPU):
    """y[rows of slot] += (x[rows] Aᵀ) Bᵀ for each slot in the batch; other rows of y are not touched at all."""

    groups: Sequence[tuple[int, Rows]] = ()

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
        for slot, rows in self.groups:
            shrunk = x[rows] @ packed.a[slot]
            add_rows(y, rows, shrunk if scale == 1.0 else shrunk * scale, packed.b[slot])

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

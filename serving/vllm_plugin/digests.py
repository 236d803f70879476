"""Exact identity of an adapter: hashes of what lies in a slot, and of what the file says should lie there.

Both sides are brought to one form: vLLM's module names, the slot's dtype, alpha/r folded into B as
`LoRALayerWeights.optimize` does it, rank padded with zeros to the slot's. Matrices that are zero throughout are left
out on both sides, so a module that the adapter lacks and an empty slot look alike. Tensor parallelism of one only.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_PREFIX = "base_model.model."


def digest(matrix: Tensor) -> str | None:
    """sha256 (hex) over shape, dtype and bytes; None when every element is zero."""
    if not bool(matrix.any()):
        return None
    whole = matrix.detach().cpu().contiguous()
    seal = hashlib.sha256(f"{tuple(whole.shape)}|{whole.dtype}|".encode())
    seal.update(whole.view(torch.uint8).numpy().data)
    return seal.hexdigest()


def slot_hashes(manager: Any, lora_id: int, part: int = 0, parts: int = 1) -> dict[str, str]:
    """Hashes of slot `lora_id` of a vLLM `LoRAModelManager`: of every `parts`-th module, from number `part` on.

    Raises KeyError when no slot holds such an adapter.
    """
    if lora_id not in manager.lora_index_to_id:
        raise KeyError(f"no slot holds LoRA id {lora_id}; slots hold {manager.lora_index_to_id}")
    slot = manager.lora_index_to_id.index(lora_id)
    found = {name: digest(matrix) for name, matrix in _slot_matrices(manager, slot, part, parts)}
    return {name: value for name, value in found.items() if value is not None}


def _slot_matrices(manager: Any, slot: int, part: int, parts: int) -> Iterator[tuple[str, Tensor]]:
    for name, layer in islice(manager.modules.items(), part, None, parts):
        names = manager.packed_modules.get(name, [name])
        for letter, stacked in (("A", layer.lora_a_stacked), ("B", layer.lora_b_stacked)):
            stack = stacked if isinstance(stacked, tuple) else (stacked,)
            for own, matrices in zip(names, stack, strict=True):
                yield f"{own}.lora_{letter}", matrices[slot].flatten(0, -3).squeeze(0)


def file_hashes(folder: Path, dtype: torch.dtype, slot_rank: int, wanted: str) -> dict[str, str]:
    """What `slot_hashes` must give for the adapter in `folder`, read straight from its safetensors file.

    wanted: sha256 (hex) of that file; checked on the very bytes that are hashed, so that a file swapped after its
    verification is found. Raises ValueError for another file, a number that is not finite, or a rank above the slot's.
    """
    from safetensors.torch import load

    scaling = scaling_of(json.loads((folder / "adapter_config.json").read_text()))
    path = folder / "adapter_model.safetensors"
    raw = path.read_bytes()
    if (found := hashlib.sha256(raw).hexdigest()) != wanted:
        raise ValueError(f"{path} has been swapped: its sha256 is {found}, not {wanted}; restore it")
    tensors = load(raw)
    found = {name: digest(matrix) for name, matrix in _file_matrices(tensors, scaling, dtype, slot_rank)}
    return {name: value for name, value in found.items() if value is not None}


def scaling_of(config: Mapping[str, Any]) -> float:
    """alpha / r, or alpha / √r with rsLoRA."""
    return config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])


def _file_matrices(
    tensors: Mapping[str, Tensor], scaling: float, dtype: torch.dtype, slot_rank: int
) -> Iterator[tuple[str, Tensor]]:
    for key, tensor in tensors.items():
        is_a = key.endswith(".lora_A.weight")
        matrix = tensor.to(dtype, copy=True)
        if not is_a and scaling != 1:
            matrix *= scaling
        if not bool(torch.isfinite(matrix).all()):
            raise ValueError(
                f"{key} holds a number that is not finite, at least as {dtype} times {scaling if not is_a else 1:g}; "
                "publish the version again"
            )
        missing = slot_rank - matrix.shape[0 if is_a else 1]
        if missing < 0:
            raise ValueError(f"{key} has a rank above the {slot_rank} of a slot; raise engine.max_lora_rank")
        name = key.removeprefix(_PREFIX).removesuffix(".weight")
        yield name, torch.nn.functional.pad(matrix, (0, 0, 0, missing) if is_a else (0, missing))

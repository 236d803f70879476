"""Writes small adapters in PEFT's layout without a tensor library: safetensors is a length, a JSON header and bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

from heliotrope.registry import GateVerdict, Manifest

Matrix = tuple[tuple[int, int], bytes]
PREFIX = "base_model.model.model.layers"


def tensors(layers: int = 2, modules: tuple[str, ...] = ("self_attn.q_proj", "mlp.up_proj"), rank: int = 2,
            fill: float = 0.5) -> dict[str, Matrix]:  # fmt: skip
    """A complete float32 adapter: A is [rank, 3], B is [4, rank], every number `fill`."""
    a = ((rank, 3), struct.pack(f"<{rank * 3}f", *[fill] * (rank * 3)))
    b = ((4, rank), struct.pack(f"<{4 * rank}f", *[fill] * (4 * rank)))
    names = [f"{PREFIX}.{layer}.{module}" for layer in range(layers) for module in modules]
    return {f"{n}.lora_{letter}.weight": m for n in names for letter, m in (("A", a), ("B", b))}


def write_safetensors(path: Path, matrices: Mapping[str, Matrix]) -> None:
    """The file of these float32 matrices."""
    header, at = {}, 0
    for name, (shape, data) in matrices.items():
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"".join(data for _, data in matrices.values()))


def manifest() -> Manifest:
    """A judged and passed manifest."""
    gate = GateVerdict(verdict="pass", figures={"accuracy": 0.61})
    return Manifest(
        parent="policy-v0", base_digest="0" * 64, verdict={"accuracy": gate}, passed=True, seeds={"torch": 1}
    )


def stage(fill: float = 0.5, behaviour: object = None, **changes: Matrix | None):
    """A `Stage` for `Registry.publish`: a small adapter; `changes` replace or (None) remove tensors by name."""

    def write(folder: Path) -> Manifest:
        matrices = {**tensors(fill=fill), **changes}
        whole = {name: matrix for name, matrix in matrices.items() if matrix is not None}
        write_safetensors(folder / "adapter_model.safetensors", whole)
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "up_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        if behaviour is not None:
            (folder / "behaviour.json").write_text(json.dumps(behaviour))
        return manifest()

    return write

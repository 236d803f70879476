"""What may lie in an adapter's folder: plain files, safetensors only, LoRA on linear layers, nothing half there.

Reads the header of a safetensors file by hand (8 bytes of length, then JSON), so that no tensor library is needed.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import re
import struct
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliotrope.errors import RegistryError, TamperedAdapter, TornAdapter

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
BEHAVIOUR = "behaviour.json"
REQUIRED = (CONFIG, WEIGHTS)
ALLOWED = (*REQUIRED, BEHAVIOUR)

_MAX_HEADER = 64 * 2**20
_TENSOR = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]+)\.lora_(?P<letter>[AB])\.weight")
_LAYER = re.compile(r"(?P<before>.*\.)(?P<layer>[0-9]+)\.(?P<after>.+)")
_REFUSED = ("embed_tokens", "lm_head", "wte")

Header = dict[str, dict[str, Any]]


def check_entries(folder: Path, names: set[str]) -> None:
    """Exactly these, each a plain file. Raises TamperedAdapter for more, TornAdapter for fewer."""
    for entry in folder.iterdir():
        if entry.name not in names:
            raise TamperedAdapter(
                f"{entry} does not belong there; remove it (vLLM would load a pickle beside weights)"
            )
        if entry.is_symlink() or not entry.is_file():
            raise TamperedAdapter(f"{entry} is not a plain file; restore it")
    if missing := sorted(name for name in names if not (folder / name).exists()):
        raise TornAdapter(f"{folder} lacks {missing[0]}; publish a new version")


@dataclass(frozen=True)
class AdapterShape:
    """What adapter_config.json promises of the weights. layers: the ones that are adapted; None: from the first on."""

    rank: int
    layers: frozenset[int] | None


def check_config(folder: Path) -> AdapterShape:
    """What the configuration promises, once it is of a kind that is served. Raises RegistryError."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_bytes())
        rank, alpha = config["r"], config["lora_alpha"]
        layers = config.get("layers_to_transform")
        adapted = None if layers is None else frozenset(map(int, layers))
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryError(f"{path} is not a LoRA configuration ({error}); publish a new version") from error
    if config.get("peft_type") != "LORA" or not isinstance(rank, int) or rank < 1 or not alpha > 0:
        raise RegistryError(
            f"{path}: peft_type {config.get('peft_type')!r}, r {rank!r}, lora_alpha {alpha!r}; use LORA"
        )
    unserved = {
        "modules_to_save": None,
        "use_dora": False,
        "bias": "none",
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    for key, plain in unserved.items():
        if config.get(key, plain) not in (plain, None, [], {}, False):
            raise RegistryError(f"{path}: {key} = {config[key]!r} is not served; train without it")
    return AdapterShape(rank, adapted)


def read_header(path: Path) -> Header:
    """Name → {dtype, shape, data_offsets} of a safetensors file. Raises TamperedAdapter when it is not one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise TamperedAdapter(
                f"{path} is not a whole safetensors file ({size} bytes); publish a new version"
            )
        raw = file.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        end = max(entry["data_offsets"][1] for entry in header.values())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise TamperedAdapter(
            f"{path} has no readable safetensors header ({error}); publish a new version"
        ) from error
    if 8 + length + end != size:
        raise TamperedAdapter(
            f"{path} has {size} bytes, its header promises {8 + length + end}; publish a new version"
        )
    return header


def check_tensors(folder: Path, shape: AdapterShape) -> None:
    """Every module has its A and B, of the promised rank, and every promised layer has the same modules.

    Raises RegistryError naming the first tensor that is missing or not served (output head, embeddings).
    """
    path = folder / WEIGHTS
    modules = _modules(path, read_header(path))
    for module, letters in modules.items():
        if missing := sorted({"A", "B"} - set(letters)):
            raise RegistryError(f"{path}: {module} has no lora_{missing[0]}; publish a whole adapter")
        if letters["A"][0] != shape.rank or letters["B"][1] != shape.rank:
            shapes = f"A {letters['A']}, B {letters['B']}"
            raise RegistryError(
                f"{path}: {module} has {shapes}, not the rank {shape.rank} of {CONFIG}; publish it again"
            )
    _check_layers(path, set(modules), shape.layers)


def _modules(path: Path, header: Header) -> Mapping[str, dict[str, list[int]]]:
    modules: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for name, entry in header.items():
        found = _TENSOR.fullmatch(name)
        if not found or any(part in found["module"].split(".") for part in _REFUSED):
            raise RegistryError(f"{path}: tensor {name!r} is not served; train LoRA on linear layers only")
        if len(entry["shape"]) != 2:
            raise RegistryError(
                f"{path}: tensor {name!r} has shape {entry['shape']}; a LoRA matrix has two sides"
            )
        modules[found["module"]][found["letter"]] = entry["shape"]
    return modules


def _check_layers(path: Path, modules: set[str], promised: frozenset[int] | None) -> None:
    layers: dict[int, set[str]] = defaultdict(set)
    for module in modules:
        if found := _LAYER.fullmatch(module):
            layers[int(found["layer"])].add(found["before"] + "{}." + found["after"])
    every = set().union(*layers.values()) if layers else set()
    expected = frozenset(range(max(layers, default=-1) + 1)) if promised is None else promised
    if surplus := sorted(layers.keys() - expected):
        raise RegistryError(f"{path}: layer {surplus[0]} is not in layers_to_transform; publish it again")
    for layer in sorted(expected):
        if missing := sorted(every - layers[layer]):
            raise RegistryError(f"{path}: {missing[0].format(layer)} is missing; publish a whole adapter")

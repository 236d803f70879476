"""Exact identity: what the slot holds against what the file says, for each way in which a load can go wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from serving.vllm_plugin.digests import digest, file_hashes, slot_hashes

SLOT_RANK, RANK, ALPHA = 4, 2, 6
SCALING = ALPHA / RANK
PARTS = {"model.layers.0.self_attn.q_proj": (6, 5), "model.layers.0.self_attn.k_proj": (2, 5),
         "model.layers.0.mlp.down_proj": (5, 7)}  # fmt: skip


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        f"base_model.model.{name}.lora_{letter}.weight": torch.randn(RANK, width) if letter == "A" else torch.randn(out, RANK)
        for name, (out, width) in PARTS.items()
        for letter in "AB"
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": ALPHA}))
    return tmp_path


def manager(tensors: dict[str, torch.Tensor], slot: int = 1, slots: int = 3):
    """A stand-in for vLLM's LoRA manager after loading id 42: packed qkv (no adapter on v) and a plain layer."""

    def stack(name: str, letter: str, shape: tuple[int, int]) -> torch.Tensor:
        whole = torch.zeros(slots, 1, *shape)
        if (tensor := tensors.get(f"base_model.model.{name}.lora_{letter}.weight")) is not None:
            whole[slot, 0, : tensor.shape[0], : tensor.shape[1]] = tensor * (1 if letter == "A" else SCALING)
        return whole

    def layer(*names: str):
        sizes = [PARTS.get(name, (2, 5)) for name in names]
        return SimpleNamespace(
            lora_a_stacked=tuple(
                stack(n, "A", (SLOT_RANK, width)) for n, (_, width) in zip(names, sizes, strict=True)
            ),
            lora_b_stacked=tuple(
                stack(n, "B", (out, SLOT_RANK)) for n, (out, _) in zip(names, sizes, strict=True)
            ),
        )

    qkv = [f"model.layers.0.self_attn.{part}_proj" for part in "qkv"]
    return SimpleNamespace(
        lora_index_to_id=[41, 42, None],
        packed_modules={"model.layers.0.self_attn.qkv_proj": qkv},
        modules={
            "model.layers.0.self_attn.qkv_proj": layer(*qkv),
            "model.layers.0.mlp.down_proj": layer("model.layers.0.mlp.down_proj"),
        },
    )


def seal(folder: Path) -> str:
    """sha256 of the weights as they lie there."""
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()


def test_a_file_swapped_since_it_was_verified_is_refused(
    folder: Path, tensors: dict[str, torch.Tensor]
) -> None:
    verified = seal(folder)
    name = "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight"
    save_file(tensors | {name: torch.zeros_like(tensors[name])}, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=f"has been swapped: its sha256 is {seal(folder)}, not {verified}"):
        file_hashes(folder, torch.float32, SLOT_RANK, verified)


def test_a_slot_loaded_as_the_file_says_has_the_files_hashes(
    folder: Path, tensors: dict[str, torch.Tensor]
) -> None:
    wanted = file_hashes(folder, torch.float32, SLOT_RANK, seal(folder))
    assert set(wanted) == {f"{name}.lora_{letter}" for name in PARTS for letter in "AB"}
    assert slot_hashes(manager(tensors), 42) == wanted
    parts = [slot_hashes(manager(tensors), 42, part, 3) for part in range(3)]
    assert {name: value for part in parts for name, value in part.items()} == wanted
    assert sum(map(len, parts)) == len(wanted), "every matrix is in one part"


def zero(m) -> None:
    m.modules["model.layers.0.mlp.down_proj"].lora_b_stacked[0][1] = 0


def half(m) -> None:
    m.modules["model.layers.0.self_attn.qkv_proj"].lora_a_stacked[0][1, 0, 1] = 0


def swap(m) -> None:
    a = m.modules["model.layers.0.self_attn.qkv_proj"].lora_a_stacked
    a[0][1], a[1][1] = a[1][1].clone(), a[0][1].clone()


def extra(m) -> None:
    m.modules["model.layers.0.self_attn.qkv_proj"].lora_b_stacked[2][1, 0, 0, 0] = 1e-3


def stale(m) -> None:
    m.modules["model.layers.0.mlp.down_proj"].lora_a_stacked[0][1, 0, SLOT_RANK - 1] = 0.5


def unscaled(m) -> None:
    m.modules["model.layers.0.mlp.down_proj"].lora_b_stacked[0][1] /= SCALING


def wrong_slot(m) -> None:
    m.lora_index_to_id = [42, 41, None]


@pytest.mark.parametrize(
    "fault", [zero, half, swap, extra, stale, unscaled, wrong_slot], ids=lambda f: f.__name__
)
def test_each_fault_changes_a_hash(
    folder: Path, tensors: dict[str, torch.Tensor], fault: Callable[[object], None]
) -> None:
    loaded = manager(tensors)
    fault(loaded)
    assert slot_hashes(loaded, 42) != file_hashes(folder, torch.float32, SLOT_RANK, seal(folder))


def test_the_file_is_cast_before_it_is_scaled_as_vllm_does(
    folder: Path, tensors: dict[str, torch.Tensor]
) -> None:
    name = "model.layers.0.mlp.down_proj.lora_B"
    b = tensors[f"base_model.model.{name}.weight"].to(torch.bfloat16)
    b *= SCALING
    wanted = digest(torch.nn.functional.pad(b, (0, SLOT_RANK - RANK)))
    assert file_hashes(folder, torch.bfloat16, SLOT_RANK, seal(folder))[name] == wanted


@pytest.mark.parametrize("number", [float("nan"), 3e38], ids=["nan", "infinite once it is scaled"])
def test_an_adapter_with_a_hole_in_it_is_refused(
    folder: Path, tensors: dict[str, torch.Tensor], number: float
) -> None:
    tensors["base_model.model.model.layers.0.mlp.down_proj.lora_B.weight"][0, 0] = number
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="not finite"):
        file_hashes(folder, torch.float32, SLOT_RANK, seal(folder))


def test_an_adapter_of_a_rank_above_the_slots_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="rank above the 1 of a slot"):
        file_hashes(folder, torch.float32, 1, seal(folder))


def test_an_id_that_no_slot_holds_is_named(tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(KeyError, match="no slot holds LoRA id 7"):
        slot_hashes(manager(tensors), 7)

"""A version is whole, sealed and of a kind that is served, or it is refused by name."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Literal

import pytest

from heliotrope.errors import NotFound, RegistryError, TamperedAdapter, TornAdapter
from heliotrope.registry import MANIFEST, READY, GateVerdict, Manifest, Registry, verify
from tests.heliotrope.small_adapters import PREFIX, stage, tensors

Q = f"{PREFIX}.1.self_attn.q_proj.lora_A.weight"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def test_published_version_reads_back_as_it_was_sealed(registry: Registry) -> None:
    made = registry.publish(stage())
    read = registry.read(1)
    assert (read.number, read.name, registry.versions()) == (1, "policy-v1", [1])
    assert read == made
    assert read.digest == read.manifest.files["adapter_model.safetensors"]
    assert set(read.manifest.files) == {"adapter_config.json", "adapter_model.safetensors"}
    assert read.manifest.version == "policy-v1" and read.manifest.created_at
    assert read.manifest.passed


def test_a_manifest_that_nobody_passed_has_not_passed() -> None:
    assert not Manifest(parent="policy-v0", base_digest="0" * 64).passed


@pytest.mark.parametrize("verdict", ["fail", "error"])
def test_a_manifest_cannot_pass_over_a_veto(verdict: Literal["fail", "error"]) -> None:
    with pytest.raises(ValueError, match=f"gate 'kl' says {verdict}"):
        Manifest(
            parent="policy-v0",
            base_digest="0" * 64,
            verdict={"kl": GateVerdict(verdict=verdict)},
            passed=True,
        )


def test_a_stage_that_fails_burns_its_number(registry: Registry) -> None:
    def breaks(folder: Path):
        (folder / "adapter_config.json").write_text("{}")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        registry.publish(breaks)
    assert registry.versions() == []
    assert registry.publish(stage()).name == "policy-v2"
    with pytest.raises(TornAdapter, match="READY is missing"):
        registry.read(1)


@pytest.mark.parametrize("name", [READY, MANIFEST, "adapter_model.safetensors", "adapter_config.json"])
def test_a_folder_that_lacks_a_file_is_torn(registry: Registry, name: str) -> None:
    path = registry.publish(stage()).path
    (path / name).unlink()
    with pytest.raises(TornAdapter, match=name):
        verify(path)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", MANIFEST])
def test_one_changed_byte_is_seen(registry: Registry, name: str) -> None:
    file = registry.publish(stage()).path / name
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(TamperedAdapter, match=name):
        verify(file.parent)


@pytest.mark.parametrize("name", ["adapter_model.bin", "notes.txt", ".hidden"])
def test_a_file_that_the_manifest_does_not_list_is_refused(registry: Registry, name: str) -> None:
    path = registry.publish(stage()).path
    (path / name).write_bytes(pickle.dumps([1]))
    with pytest.raises(TamperedAdapter, match="does not belong there"):
        verify(path)


def test_a_pickle_is_never_published(registry: Registry) -> None:
    def with_pickle(folder: Path):
        (folder / "adapter_model.bin").write_bytes(pickle.dumps([1]))
        return stage()(folder)

    with pytest.raises(TamperedAdapter, match="adapter_model.bin"):
        registry.publish(with_pickle)
    assert registry.versions() == []


def test_a_pickle_under_a_safetensors_name_is_refused(registry: Registry) -> None:
    def disguised(folder: Path):
        sealed = stage()(folder)
        (folder / "adapter_model.safetensors").write_bytes(pickle.dumps([1]))
        return sealed

    with pytest.raises(TamperedAdapter, match="safetensors"):
        registry.publish(disguised)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({Q: None}, "layers.1.self_attn.q_proj has no lora_A"),
        ({Q: None, Q.replace("_A", "_B"): None}, "layers.1.self_attn.q_proj is missing"),
        ({Q: ((3, 3), bytes(36))}, "not the rank 2"),
        ({"base_model.model.lm_head.lora_A.weight": ((2, 3), bytes(24))}, "is not served"),
        ({"base_model.model.model.embed_tokens.lora_A.weight": ((2, 3), bytes(24))}, "is not served"),
        ({"base_model.model.model.lora_embedding_A": ((2, 3), bytes(24))}, "is not served"),
    ],
)
def test_an_adapter_that_is_not_whole_linear_lora_is_refused(
    registry: Registry, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(RegistryError, match=says):
        registry.publish(stage(**changes))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "change",
    [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}, {"peft_type": "IA3"}, {"r": 0}],
)
def test_a_configuration_that_is_not_served_is_refused(registry: Registry, change: dict[str, object]) -> None:
    def changed(folder: Path):
        sealed = stage()(folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
        return sealed

    with pytest.raises(RegistryError, match=str(next(iter(change)))):
        registry.publish(changed)


def test_a_cut_file_is_refused_even_before_it_is_sealed(registry: Registry) -> None:
    def cut(folder: Path):
        sealed = stage()(folder)
        file = folder / "adapter_model.safetensors"
        file.write_bytes(file.read_bytes()[:-4])
        return sealed

    with pytest.raises(TamperedAdapter, match="its header promises"):
        registry.publish(cut)


def test_links_are_refused(registry: Registry, tmp_path: Path) -> None:
    path = registry.publish(stage()).path
    outside = tmp_path / "outside"
    (path / "adapter_model.safetensors").rename(outside)
    (path / "adapter_model.safetensors").symlink_to(outside)
    with pytest.raises(TamperedAdapter, match="not a plain file"):
        verify(path)
    (registry.policies / "policy-v2").symlink_to(path)
    with pytest.raises(TamperedAdapter, match="not a folder of its own"):
        registry.read(2)


def test_a_manifest_cannot_name_a_file_elsewhere(registry: Registry) -> None:
    path = registry.publish(stage()).path
    text = (path / MANIFEST).read_text().replace('"adapter_config.json"', '"../../../etc/passwd"')
    (path / MANIFEST).write_text(text)
    (path / READY).write_text(hashlib.sha256(text.encode()).hexdigest())
    with pytest.raises(TamperedAdapter, match="etc/passwd"):
        verify(path)


def test_a_folder_under_another_number_is_refused(registry: Registry) -> None:
    registry.publish(stage()).path.rename(registry.policies / "policy-v7")
    with pytest.raises(TamperedAdapter, match="says that it is 'policy-v1'"):
        registry.read(7)


@pytest.mark.parametrize("version", [0, -1, 2, True])
def test_a_version_that_is_not_there_is_not_found(registry: Registry, version: int) -> None:
    registry.publish(stage())
    with pytest.raises(NotFound, match="newest ready ones: v1"):
        registry.read(version)


def test_shadows_are_named_by_content_and_leave_no_trace(registry: Registry) -> None:
    made = registry.publish_shadow(stage(fill=0.25))
    assert registry.publish_shadow(stage(fill=0.25)) == made
    assert made.number is None and made.name == f"shadow-{made.digest[:12]}"
    assert registry.shadow(made.digest) == made
    assert registry.versions() == []
    registry.drop_shadow(made.digest)
    assert list(registry.shadows.iterdir()) == []


@pytest.mark.parametrize("digest", ["../policies/policy-v1", "", "0" * 63, "g" * 64])
def test_a_shadow_is_found_by_digest_only(registry: Registry, digest: str) -> None:
    registry.publish(stage())
    for call in (registry.shadow, registry.drop_shadow):
        with pytest.raises(NotFound, match="64 hex digits"):
            call(digest)
    assert registry.versions() == [1]


@pytest.mark.parametrize(
    ("promised", "problem"),
    [([1], None), ([0, 1], r"layers\.0.*is missing"), ([0], "layer 1 is not in layers_to_transform")],
)
def test_layers_are_exactly_those_that_the_configuration_promises(
    registry: Registry, promised: list[int], problem: str | None
) -> None:
    first = [name for name in tensors() if ".layers.0." in name]

    def upper_only(folder: Path) -> Manifest:
        made = stage(**dict.fromkeys(first))(folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(config | {"layers_to_transform": promised}))
        return made

    if problem is None:
        assert registry.publish(upper_only).name == "policy-v1"
    else:
        with pytest.raises(RegistryError, match=problem):
            registry.publish(upper_only)

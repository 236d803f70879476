"""The registry: immutable policy versions in folders, handed from the learner to serving.

    policies/policy-vN/   adapter_config.json  adapter_model.safetensors  behaviour.json  manifest.json  READY
    shadow/<sha256>/      the same files, for adapters that are only sampled from

READY is written last, after everything else is on disk, and holds the manifest's hash. A folder without it is torn:
it is never read and its number never given out again. What may lie in a folder is checked in `adapter_files`.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from heliotrope.adapter_files import ALLOWED, REQUIRED, WEIGHTS, check_config, check_entries, check_tensors
from heliotrope.errors import AlreadyExists, NotFound, RegistryError, TamperedAdapter, TornAdapter
from heliotrope.failpoints import reach

READY, MANIFEST = "READY", "manifest.json"
_VERSION = re.compile(r"policy-v([1-9][0-9]{0,8})")
_DIGEST = re.compile(r"[0-9a-f]{64}")

Stage = Callable[[Path], "Manifest"]


class GateVerdict(BaseModel):
    """What one gate said, with every figure that it said it on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Literal["pass", "fail", "inconclusive", "error"]
    figures: dict[str, float | str | None] = {}


class Manifest(BaseModel):
    """Everything needed to know, and to make again, one version. `version`, `files`, `created_at` are the registry's;
    `passed` is the judge's word on all of `verdict` (learner/judge.py). log_positions: offset by place, "feedback/3".
    known_hash: of all examples at hand, those held out among them. without: a salted digest of who was left out.
    refused: why examples could not be learned from or judged by, by id.
    trained_at: seconds since 1970, from when the age of an example was counted. made_with: what else decides the bits of
    the weights: the lock, the processor's instructions, the number of threads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = ""
    parent: str
    base_digest: str
    envelope: dict[str, str] = {}
    files: dict[str, str] = {}
    log_positions: dict[str, int] = {}
    example_ids: tuple[str, ...] = ()
    examples_hash: str = ""
    known_hash: str = ""
    without: dict[str, str] = {}
    refused: dict[str, str] = {}
    reward_model: dict[str, str] = {}
    algorithm: str = ""
    config: dict[str, Any] = {}
    seeds: dict[str, int] = {}
    trained_at: float = 0.0
    made_with: dict[str, str] = {}
    metrics: dict[str, float] = {}
    verdict: dict[str, GateVerdict] = {}
    passed: bool = False
    created_at: str = ""

    @field_validator("log_positions")
    @classmethod
    def _topics_had_no_partitions_once(cls, positions: dict[str, int]) -> dict[str, int]:
        return {name if "/" in name else f"{name}/0": offset for name, offset in positions.items()}

    @model_validator(mode="after")
    def _any_gate_can_veto(self) -> Manifest:
        vetoes = [name for name, gate in self.verdict.items() if gate.verdict in ("fail", "error")]
        if self.passed and vetoes:
            raise ValueError(f"passed, though gate {vetoes[0]!r} says {self.verdict[vetoes[0]].verdict}")
        return self


@dataclass(frozen=True)
class PolicyVersion:
    """A version that is READY. number is None for a shadow; digest is the sha256 of its weights' file."""

    number: int | None
    name: str
    path: Path
    digest: str
    manifest: Manifest


class Registry:
    """Versions under `root`. One learner publishes, any number of processes read."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def policies(self) -> Path:
        """Folder of numbered versions."""
        return self.root / "policies"

    @property
    def shadows(self) -> Path:
        """Folder of adapters that are only sampled from."""
        return self.root / "shadow"

    def versions(self) -> list[int]:
        """Numbers of READY versions, ascending; `policy-v0`, the base, has no folder and is not among them."""
        return [n for n in self._numbers() if (self.policies / f"policy-v{n}" / READY).is_file()]

    def _numbers(self) -> list[int]:
        if not self.policies.is_dir():
            return []
        return sorted(int(m[1]) for entry in self.policies.iterdir() if (m := _VERSION.fullmatch(entry.name)))

    def read(self, version: int) -> PolicyVersion:
        """One verified version. Raises NotFound, or what `verify` raises."""
        path = self.policies / f"policy-v{version}"
        if isinstance(version, bool) or not isinstance(version, int) or version < 1 or not path.is_dir():
            ready = ", ".join(f"v{n}" for n in self.versions()[-5:]) or "none"
            raise NotFound(f"there is no policy-v{version} in {self.root}; the newest ready ones: {ready}")
        manifest = verify(path)
        if manifest.version != path.name:
            raise TamperedAdapter(f"{path} says that it is {manifest.version!r}; restore it or publish anew")
        return PolicyVersion(version, path.name, path, manifest.files[WEIGHTS], manifest)

    def shadow(self, digest: str) -> PolicyVersion:
        """One verified shadow adapter by the sha256 of its weights. Raises NotFound, or what `verify` raises."""
        path = self.shadows / digest
        if not _DIGEST.fullmatch(digest) or not path.is_dir():
            raise NotFound(
                f"there is no shadow {digest!r}; give the 64 hex digits that publish_shadow returned"
            )
        manifest = verify(path)
        if manifest.files[WEIGHTS] != digest:
            raise TamperedAdapter(f"{path} holds {manifest.files[WEIGHTS]}; publish the shadow anew")
        return PolicyVersion(None, f"shadow-{digest[:12]}", path, digest, manifest)

    def publish(self, stage: Stage) -> PolicyVersion:
        """A new version. `stage` writes the adapter's files into the folder that it is given and returns the manifest.

        The number is the next after every folder there is, torn ones too. When `stage` raises, or its files would
        not verify, the folder stays without READY and its number is burned.
        """
        number = max(self._numbers(), default=0) + 1
        path = self.policies / f"policy-v{number}"
        self.policies.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir()  # exclusive: two publishers never share a number
        except FileExistsError as error:
            raise AlreadyExists(
                f"{path} has just been made by another publisher; run one learner a registry"
            ) from error
        _fsync(self.policies)
        _finish(path, stage(path), path.name)
        return self.read(number)

    def publish_shadow(self, stage: Stage) -> PolicyVersion:
        """A shadow named by its content; publishing the same weights again gives the one that is there."""
        self.shadows.mkdir(parents=True, exist_ok=True)
        staging = self.shadows / f".staging-{secrets.token_hex(8)}"
        staging.mkdir()
        try:
            manifest = stage(staging)
            digest = _sha256(staging / WEIGHTS)
            if not (self.shadows / digest / READY).is_file():
                _finish(staging, manifest, f"shadow-{digest[:12]}")
                shutil.rmtree(self.shadows / digest, ignore_errors=True)
                staging.rename(self.shadows / digest)
                _fsync(self.shadows)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return self.shadow(digest)

    def drop_shadow(self, digest: str) -> None:
        """Remove a shadow; one that is not there is fine. Raises NotFound for what is no digest."""
        if not _DIGEST.fullmatch(digest):
            raise NotFound(
                f"there is no shadow {digest!r}; give the 64 hex digits that publish_shadow returned"
            )
        shutil.rmtree(self.shadows / digest, ignore_errors=True)


def verify(folder: Path) -> Manifest:
    """The manifest of `folder`, once everything in it is as the manifest says.

    Raises TornAdapter when something is missing, TamperedAdapter when something is other than it was published, and
    RegistryError when the adapter is of a kind that is not served.
    """
    try:
        return _verified(folder)
    except OSError as error:
        raise RegistryError(f"{folder} cannot be read: {error}; check the disk and permissions") from error
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
        raise TamperedAdapter(f"{folder} holds what was never published ({error!r}); restore it") from error


def _verified(folder: Path) -> Manifest:
    manifest = _read_manifest(folder)
    check_entries(folder, {*manifest.files, MANIFEST, READY})
    for name, wanted in manifest.files.items():
        if (found := _sha256(folder / name)) != wanted:
            raise TamperedAdapter(
                f"{folder / name} has sha256 {found}, its manifest says {wanted}; restore the file"
            )
    check_tensors(folder, check_config(folder))
    return manifest


def _read_manifest(folder: Path) -> Manifest:
    if folder.is_symlink() or not folder.is_dir():
        raise TamperedAdapter(f"{folder} is not a folder of its own; remove the link")
    for name in (READY, MANIFEST):
        if (folder / name).is_symlink():
            raise TamperedAdapter(f"{folder / name} is a link; restore the file")
        if not (folder / name).is_file():
            raise TornAdapter(
                f"{folder} is torn: {name} is missing; its number is burned, publish a new version"
            )
    if (seal := (folder / READY).read_text().strip()) != _sha256(folder / MANIFEST):
        raise TamperedAdapter(
            f"{folder / MANIFEST} is not the one that READY sealed ({seal[:12]}); restore it"
        )
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except ValidationError as error:
        raise TamperedAdapter(f"{folder / MANIFEST} is not a manifest: {error.errors()[0]['msg']}") from error
    _check_names(folder, set(manifest.files))
    return manifest


def _check_names(folder: Path, names: set[str]) -> None:
    if strange := sorted(names - set(ALLOWED)):
        raise TamperedAdapter(f"{folder} lists {strange[0]!r}; only {', '.join(ALLOWED)} may be there")
    if missing := sorted(set(REQUIRED) - names):
        raise TornAdapter(f"{folder} lacks {missing[0]}; publish a new version")


def _finish(folder: Path, manifest: Manifest, name: str) -> None:
    """Seal a staged folder: hash, check, sync, and READY last."""
    files = sorted(entry.name for entry in folder.iterdir())
    _check_names(folder, set(files))
    check_entries(folder, set(files))
    check_tensors(folder, check_config(folder))
    sealed = manifest.model_copy(
        update={
            "version": name,
            "files": {file: _sha256(folder / file) for file in files},
            "created_at": manifest.created_at or datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    (folder / MANIFEST).write_text(sealed.model_dump_json(indent=1))
    for file in (*files, MANIFEST):
        _fsync(folder / file)
    _fsync(folder)
    unready = folder / f".{READY}"
    unready.write_text(_sha256(folder / MANIFEST))
    _fsync(unready)
    reach("between files and READY")
    unready.rename(folder / READY)
    _fsync(folder)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise TornAdapter(f"{path} is missing; publish a new version") from error
    except OSError as error:
        raise RegistryError(
            f"{path} cannot be read: {error.strerror}; check the disk and permissions"
        ) from error


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

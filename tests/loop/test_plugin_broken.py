"""vLLM swallows an exception while it imports a plugin and serves on with operations that leak: serving must refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.children import free_ports

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BREAK_IMPORT = """
import multiprocessing, sys

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "serving.vllm_plugin" and multiprocessing.parent_process() is not None:
            raise ImportError("broken on purpose")

sys.meta_path.insert(0, Broken())
"""


@pytest.mark.usefixtures("model_dir")
def test_serving_refuses_to_start_when_the_engine_cannot_import_the_plugin(tmp_path: Path) -> None:
    """Broken in vLLM's processes only, by a `sitecustomize` that they import before anything else."""
    (tmp_path / "sitecustomize.py").write_text(BREAK_IMPORT)
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    ports = zip(("public_port", "private_port", "http_port"), free_ports(3), strict=True)
    sets = [
        f"--set=paths.state={tmp_path / 'state'}",
        *(f"--set=serving.{name}={port}" for name, port in ports),
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "serving", *sets], env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=200, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "serving: vLLM did not start" in ended.stderr and "broken on purpose" in ended.stderr
    assert "page http" not in ended.stdout

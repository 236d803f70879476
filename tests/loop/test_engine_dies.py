"""kill -9 of a process that runs a real engine: five seconds later none of vLLM's processes is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")]

ROOT = Path(__file__).parents[2]
PARENT = """
import asyncio, sys
from pathlib import Path
from serving.engine_vllm import EngineSettings, VllmEngine

async def main():
    await VllmEngine(EngineSettings(Path(sys.argv[1]), (2,), max_model_len=256)).start()
    print("ready", flush=True)
    await asyncio.Event().wait()

if __name__ == "__main__":
    asyncio.run(main())
"""


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, from /proc."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        below.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = list(below.get(pid, []))
    for child in found:
        found += below.get(child, [])
    return found


def alive(pid: int) -> bool:
    """Running, and not a zombie that waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_no_process_of_the_engine_outlives_serving(model_dir: Path, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script), str(model_dir)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as parent:
        assert parent.stdout is not None and any(line.strip() == "ready" for line in parent.stdout)
        processes = descendants(parent.pid)
        assert processes, "vLLM runs at least one process of its own"
        parent.send_signal(signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in processes), 5)
    assert not any(alive(pid) for pid in processes)

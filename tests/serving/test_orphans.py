"""kill -9 of serving leaves no engine process: a chain of three processes with the plugin's rule, and no vLLM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving.vllm_plugin import OWNER

ROOT = Path(__file__).parents[2]
CHAIN = """
import multiprocessing, os, sys, time
from serving.vllm_plugin import OWNER, die_with_parent

def engine(depth, pids):
    die_with_parent()
    if depth:
        below = multiprocessing.get_context("spawn").Process(target=engine, args=(depth - 1, pids))
        below.start()
    pids.put(os.getpid())
    time.sleep(300)

if __name__ == "__main__":
    os.environ[OWNER] = str(os.getpid())
    context = multiprocessing.get_context("spawn")
    pids = context.Queue()
    context.Process(target=engine, args=(1, pids)).start()
    die_with_parent()
    print(pids.get(), pids.get(), flush=True)
    time.sleep(300)
"""


def alive(pid: int) -> bool:
    """Running, and not a zombie that waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_kill_9_takes_the_whole_chain_within_five_seconds(tmp_path: Path) -> None:
    script = tmp_path / "chain.py"
    script.write_text(CHAIN)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=env
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2 and all(alive(pid) for pid in pids)
        parent.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 5
        while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
            os.sched_yield()
    assert not any(alive(pid) for pid in pids)


def test_serving_itself_does_not_tie_its_life_to_its_parent() -> None:
    code = "from serving.vllm_plugin import die_with_parent; die_with_parent(); print('on')"
    env = {**os.environ, "PYTHONPATH": str(ROOT), OWNER: "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout == "on\n"

"""What runs inside every process of vLLM: LoRA that keeps rows apart, and death together with serving.

vLLM swallows an exception raised while it imports a plugin and serves on with its stock LoRA operations, which leak
adapters between rows (DESIGN §5.1). So this module imports nothing that can fail, `register()` raises, and
`VllmEngine.start` asks every worker which operations are active.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal

OWNER = "HELIOTROPE_ENGINE_OWNER"
WRAPPER = "serving.vllm_plugin.punica.GroupedPunicaWrapper"
KNOWN_VLLM = (
    "0.32.0",
)  # seen to call these operations as they expect; on any other serving checks itself first
_PR_SET_PDEATHSIG = 1


def register() -> None:
    """Entry point of `vllm.general_plugins`; called once in serving itself and in each process of the engine."""
    die_with_parent()
    use_grouped_lora()


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies, however it dies. Does nothing in serving itself.

    Linux only (prctl PR_SET_PDEATHSIG). The signal comes when the *thread* that started this process ends, so
    an engine must be started from a thread that lives as long as serving. Raises OSError when the kernel refuses.
    """
    parent = multiprocessing.parent_process()
    if parent is None or os.environ.get(OWNER) in (None, str(os.getpid())):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent.pid:  # it died before we asked: no signal will ever come
        os.kill(os.getpid(), signal.SIGKILL)


def use_grouped_lora() -> None:
    """On CPU put our LoRA operations in place of vLLM's. A GPU keeps its own, which do keep rows apart."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        setattr(type(current_platform), "get_punica_wrapper", classmethod(lambda cls: WRAPPER))  # noqa: B010

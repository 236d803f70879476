"""What vLLM is started with: sizes, number type, and the variables of its processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from serving.vllm_plugin import OWNER

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class EngineSettings:
    """What `VllmEngine` is built from.

    model: a Hugging Face folder. eos_ids: tokens that end a response. dtype: auto | float32 | bfloat16.
    max_model_len: tokens of prompt and response. slots: adapters resident at once. kv_cache_gib: memory for keys and values, CPU only.
    threads: of the CPU engine; 0 = one per usable core.
    """

    model: Path
    eos_ids: tuple[int, ...]
    dtype: str = "auto"
    max_model_len: int = 1024
    max_num_seqs: int = 64
    slots: int = 6
    max_lora_rank: int = 16
    lora_targets: tuple[str, ...] = LINEAR
    kv_cache_gib: float = 1.0
    threads: int = 0


def environment(settings: EngineSettings) -> dict[str, str]:
    """Variables for vLLM's processes. They must be set before vllm is imported.

    One process for core and worker is enough on one device (`uni`): a second one costs its imports at start and a
    hop per step. vLLM allows it on CPU only with V1_MULTIPROCESSING off; AsyncLLM starts a process all the same.
    """
    threads = settings.threads or len(os.sched_getaffinity(0))
    return {
        OWNER: str(os.getpid()),
        "VLLM_PLUGINS": "heliotrope",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
        # Spinning waits would take the cores from the learner, which shares them; but see `neighbours`.
        "OMP_WAIT_POLICY": "PASSIVE",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
        "HF_HUB_OFFLINE": "1",
    }

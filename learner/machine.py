"""What decides the bits of trained weights besides data, configuration and seed: libraries, instructions, threads."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import distributions

import torch
from llvmlite.binding import get_host_cpu_name

from heliotrope.arithmetic import dtype_here
from heliotrope.config import Config

ROUNDINGS = "9"
"""Raised with every change to our own arithmetic that may change a bit of a policy."""
ARITHMETIC = ("llvmlite", "numba", "numpy", "peft", "safetensors", "tokenizers", "torch", "transformers")
"""Libraries whose version may change a rounding."""


def precision(config: Config) -> str:
    """`float32` or `bfloat16`: what `lora.dtype` comes to on this machine."""
    return dtype_here(config.lora.dtype, config.learner.device == "cuda")


def made_with(config: Config) -> dict[str, str]:
    """dtype: of the base's products; lock: SHA-256 (hex) over the versions of `ARITHMETIC`; isa: the instructions that torch picked; cpu: what numba
    compiles for; threads: of torch; arithmetic: ours."""
    found = {(d.metadata["Name"] or "").lower(): d.version for d in distributions()}
    pins = "\n".join(f"{name}=={found.get(name, 'absent')}" for name in ARITHMETIC)
    return {
        "dtype": precision(config),
        "lock": hashlib.sha256(pins.encode()).hexdigest(),
        "isa": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "cpu": get_host_cpu_name(),
        "threads": str(torch.get_num_threads()),
        "arithmetic": ROUNDINGS,
    }

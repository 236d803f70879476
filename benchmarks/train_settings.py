"""The settings of TRL that `benchmarks.train` tries."""

from __future__ import annotations

from typing import Any

FLOAT32 = {"bf16": False, "gradient_checkpointing": False}
BFLOAT16 = {"gradient_checkpointing": False}
"""Autocast; adapter and optimiser stay in float32."""
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "float32, checkpointing": {"bf16": False},
    "bfloat16 weights, precomputed": BFLOAT16 | {"weights": "bfloat16", "precompute_ref_log_probs": True},
    "bfloat16 weights": BFLOAT16 | {"weights": "bfloat16"},
    "bfloat16 weights, no autocast": FLOAT32 | {"weights": "bfloat16"},
    "bfloat16 weights, micro-batches": BFLOAT16 | {"weights": "bfloat16", "per_device_train_batch_size": 2},
} | {
    name + more: values | extra
    for name, values in (("float32", FLOAT32), ("bfloat16", BFLOAT16))
    for more, extra in (
        ("", {}),
        (", precomputed", {"precompute_ref_log_probs": True}),
        (", padding-free", {"padding_free": True}),
        (", length-grouped", {"train_sampling_strategy": "group_by_length"}),
    )
}
"""TRL's arguments by the name of the table's row. Its defaults are bfloat16 autocast and gradient checkpointing. Padding-free rows
it has in SFT alone. `weights`: of the frozen base, float32 unless said; no argument of TRL's. Smaller batches are accumulated to a step of
the same size."""

"""The settings of TRL that `benchmarks.train` tries."""

from __future__ import annotations

from typing import Any

FLOAT32 = {"bf16": False, "gradient_checkpointing": False}
PADDING_FREE = "float32, padding-free"
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "bfloat16": {"gradient_checkpointing": False},
    "float32, checkpointing": {"bf16": False},
    "float32": FLOAT32,
    "float32, precomputed": FLOAT32 | {"precompute_ref_log_probs": True},
    PADDING_FREE: FLOAT32 | {"padding_free": True},
    "float32, length-grouped": FLOAT32 | {"train_sampling_strategy": "group_by_length"},
}
"""TRL's arguments by the name of the table's row. Its defaults are bfloat16 autocast and gradient checkpointing. Padding-free rows
it has in SFT alone."""

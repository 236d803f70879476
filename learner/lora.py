"""LoRA adapters: what one covers, how it starts, and what PEFT is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftConfig
from torch import nn

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoraShape:
    """What an adapter covers: the update is (alpha / rank) B A on `targets` of the layers from `first_layer`, unless it has a
    `Reach` of its own."""

    rank: int = 16
    alpha: float = 32.0
    first_layer: int = 0
    targets: tuple[str, ...] = TARGETS


@dataclass(frozen=True)
class Reach:
    """`layers` layers up to the share `depth` of the base, after which the adapter's output is read."""

    layers: int
    depth: float = 1.0

    def of(self, count: int) -> range:
        """The layers themselves, of a base that has `count`."""
        end = max(1, round(self.depth * count))
        return range(max(0, end - self.layers), end)


def lora_config(shape: LoraShape, layers: Sequence[int]) -> LoraConfig:
    """PEFT's, of an adapter on these layers."""
    return LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,  # pyright: ignore[reportArgumentType]
        target_modules=list(shape.targets),
        layers_to_transform=list(layers),
        task_type="CAUSAL_LM",
    )


def written(config: PeftConfig, shape: LoraShape, base: str) -> dict[str, Any]:
    """What an adapter's file says of it beside its weights, and nothing of the machine that made it."""
    keep = ("peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "bias", "layers_to_transform")
    values = config.to_dict()
    return {key: values[key] for key in keep} | {
        "base_model_name_or_path": base,
        "target_modules": list(shape.targets),
        "inference_mode": True,
    }


@torch.no_grad()
def start_afresh(parameters: Mapping[str, nn.Parameter], generator: torch.Generator) -> None:
    """Of an adapter, by PEFT's names. The same order and seed give the same numbers."""
    for name, parameter in parameters.items():
        if ".lora_A." in name:
            nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=generator)
        else:
            parameter.zero_()

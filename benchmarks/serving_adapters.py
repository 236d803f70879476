"""Two adapters of noise in a registry, with the trainer's record that serving asks for at every load."""

from __future__ import annotations

import random
from pathlib import Path

from heliotrope.chat import ChatFormat
from heliotrope.config import load
from heliotrope.registry import Manifest, Registry, Stage
from tests.loop.real_adapters import Trainer, noise, stage

STRENGTH = 0.02
TEXTS = [random.Random(seed).choices(range(100, 40_000), k=32) for seed in range(16)]


def publish_adapters(root: Path) -> None:
    """policy-v1 and policy-v2 for the default model, as a learner would publish them."""
    model, registry = load().model.folder, Registry(root)
    digest, trainer = ChatFormat.load(model).envelope.base_digest, Trainer(model)
    for seed in (1, 2):
        tensors = noise(model, seed, STRENGTH)
        shadow = registry.publish_shadow(stage(tensors))
        registry.publish(fitting(stage(tensors, trainer.record(shadow.path, TEXTS, start=16)), digest))


def fitting(write: Stage, base_digest: str) -> Stage:
    """The same version, as trained on that base and passed by a judge."""

    def fitted(folder: Path) -> Manifest:
        return write(folder).model_copy(update={"base_digest": base_digest, "passed": True})

    return fitted

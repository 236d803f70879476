"""From trained weights to an immutable version: the files, and a manifest that can be traced and retrained from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from feedback.examples import Example, examples_hash
from heliotrope.adapter_files import BEHAVIOUR
from heliotrope.chat import ChatFormat
from heliotrope.config import Config
from heliotrope.registry import GateVerdict, Manifest, Stage
from learner.backbone import Backbone
from learner.dpo import ADAPTER, PolicyUpdate
from learner.judge import Gate, passed
from learner.machine import made_with

ALGORITHM = "dpo"
TRACED = ("model", "learner", "lora", "dpo", "mixture", "reward", "judge")
"""Sections of the configuration that a version depends on."""


@dataclass(frozen=True)
class Origin:
    """What a version came from."""

    parent: str
    log_positions: Mapping[str, int]
    example_ids: Sequence[str]
    examples_hash: str
    reward_model: Mapping[str, str]
    trained_at: float
    """From when the age of each preference was counted, seconds since 1970."""
    known_hash: str = ""
    """Of all examples that the update was given: those held out weigh on the others, too."""
    without: Mapping[str, str] = field(default_factory=dict)
    """See `learner.without.Without.record`."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why examples could not be learned from or judged by, by id."""

    @classmethod
    def of(
        cls,
        parent: str,
        positions: Mapping[str, int],
        trained: PolicyUpdate,
        preferences: Sequence[Example],
        reward_model: Mapping[str, str],
        now: float,
    ) -> Origin:
        """What an update began from and used: `preferences` as they stood, `trained` in the order of training.

        `reward_model`: `RewardModel.record` of the state that judges it.
        """
        used = set(trained.example_ids)
        return cls(
            parent=parent,
            log_positions=positions,
            example_ids=trained.example_ids,
            examples_hash=examples_hash([p for p in preferences if p.id in used]),
            reward_model=dict(reward_model),
            trained_at=now,
            known_hash=examples_hash(preferences),
            refused=trained.refused,
        )


def manifest(
    origin: Origin, config: Config, chat: ChatFormat, gates: Mapping[str, Gate], metrics: Mapping[str, float]
) -> Manifest:
    """What is known of a version when it is published. `gates` may be empty: a shadow is not judged yet."""
    envelope = MessageToDict(chat.envelope, preserving_proto_field_name=True)
    return Manifest(
        parent=origin.parent,
        base_digest=chat.envelope.base_digest,
        envelope=envelope,
        log_positions=dict(origin.log_positions),
        example_ids=tuple(origin.example_ids),
        examples_hash=origin.examples_hash,
        known_hash=origin.known_hash,
        without=dict(origin.without),
        refused=dict(origin.refused),
        reward_model=dict(origin.reward_model),
        algorithm=ALGORITHM,
        config=_traced(config),
        seeds={"learner": config.learner.seed},
        trained_at=origin.trained_at,
        made_with=made_with(config),
        metrics=dict(metrics),
        verdict={name: _verdict(gate) for name, gate in gates.items()},
        passed=passed(gates),
    )


def stage(backbone: Backbone, behaviour: Mapping[str, Any], manifest: Manifest) -> Stage:
    """Writes the "policy" adapter and its behaviour record into the folder that the registry gives."""

    def write(folder: Path) -> Manifest:
        backbone.save_adapter(ADAPTER, folder)
        (folder / BEHAVIOUR).write_text(json.dumps(behaviour))
        return manifest

    return write


def metrics(
    trained: PolicyUpdate, preferences: int, prequential: float | None, gates: Mapping[str, Gate]
) -> dict[str, float]:
    """Figures for people: training's, the reward model's record, each gate's first figure, and below which drift is noise.

    preferences: how many were known, held-out ones and ties among them.
    """
    found = {
        "loss": trained.last.loss,
        "accuracy": trained.first.accuracy,
        "margin": trained.last.margin,
        "pairs": trained.pairs,
        "preferences": preferences,
        "steps": trained.steps,
        "seconds": trained.seconds,
        "refused": len(trained.refused),
        "drift": trained.drift,
        "effective": trained.effective,
        "age": trained.age,
    }
    if prequential is not None:
        found["reward_accuracy"] = prequential
    for name, gate in gates.items():
        found |= {f"{name}.{figure}": value for figure, value in list(gate.figures.items())[:1]}
    if "kl" in gates:
        found["noise_floor"] = gates["kl"].figures.get("noise_floor", math.nan)
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def _traced(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json", include=set(TRACED))


def _verdict(gate: Gate) -> GateVerdict:
    figures: dict[str, float | str | None] = dict(gate.figures)
    return GateVerdict(verdict=gate.verdict, figures=figures | ({"note": gate.note} if gate.note else {}))

"""What people look at of a training: a run of TensorBoard for each version, and the same rows in learner.db.

tensorboard --logdir state/learner/curves
"""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from heliotrope.policies import number
from learner.metrics import Progress
from learner.store import Store

log = logging.getLogger("heliotrope.learner")

VERSIONS = "versions"
"""The run with one point a version."""


class Curves:
    """folder: TensorBoard's runs, one of each version with a point an optimiser step, and one with a point a version."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder, self._store = folder, store

    def record(self, version: str, history: Sequence[Progress], metrics: Mapping[str, float]) -> None:
        """Of a version that is published. What cannot be written is said, and costs nothing but curves."""
        steps = {at.step: _figures(at) for at in history}
        for write in (
            partial(self._store.record_steps, version, steps),
            partial(self._write, version, steps),
            partial(self._write, VERSIONS, {number(version): metrics}),
        ):
            try:
                write()
            except (OSError, RuntimeError, sqlite3.Error) as error:  # RuntimeError: no thread for a writer
                log.warning("the curves of %s are not kept: %s", version, error)

    def _write(self, run: str, points: Mapping[int, Mapping[str, float]]) -> None:
        with SummaryWriter(str(self._folder / run)) as writer:
            for step, figures in points.items():
                for name, value in figures.items():
                    writer.add_scalar(name.replace(".", "/"), value, step)


def _figures(at: Progress) -> dict[str, float]:
    found = {**asdict(at.metrics), "grad_norm": at.grad_norm, "pairs_per_second": at.pairs_per_second}
    return {name: value for name, value in found.items() if math.isfinite(value)}

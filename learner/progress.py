"""One line of log for each optimiser step."""

from __future__ import annotations

import logging

from learner.dpo import Progress

log = logging.getLogger("heliotrope.learner")


def show(progress: Progress) -> None:
    """Say how far training is."""
    m = progress.metrics
    log.info(
        "step %d/%d: loss %.4f, accuracy %.2f, margin %.3f, %.1f pairs/s",
        progress.step,
        progress.steps,
        m.loss,
        m.accuracy,
        m.margin,
        progress.pairs_per_second,
    )

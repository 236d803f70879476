"""What may be learned from, as the configuration says it: one set of rules for both programs' derived stores."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from feedback.join import Joiner
from feedback.quarantine import Bounds
from feedback.replay import discard_half_made
from feedback.training_set import Retention, TrainingSet
from heliotrope.chat import ChatFormat
from heliotrope.config import Config

MADE_BY = 2
"""Raised whenever the same events make other examples than before: stores are then derived anew from their facts."""


def training_set(
    config: Config, chat: ChatFormat, path: Path, clock: Callable[[], float] = time.time
) -> TrainingSet:
    """The set in the file at `path`; what a killed replay left beside it is deleted. clock: seconds since 1970."""
    discard_half_made(path)
    settings, tokenizer, opener = config.learner, chat.envelope.tokenizer, chat.opener
    name = f"{MADE_BY} {sorted(settings.sources)} {settings.held_out} {tokenizer}"
    bounds = Bounds(config.retention.quarantine_days, config.retention.quarantine_mib << 20)
    return TrainingSet(
        path,
        lambda: Joiner(settings.sources, settings.held_out, tokenizer, opener),
        name,
        clock,
        Retention(config.retention.pending_days, bounds),
        chat.answer_ids,
    )

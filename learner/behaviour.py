"""The record of what a version says of fixed texts, by which serving knows after loading it that it is the one trained."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property

import torch

from heliotrope.chat import ChatFormat
from learner.backbone import Backbone
from learner.probes import probes
from learner.rows import collate, make_row

Scores = list[list[float]]


class Recorder:
    """Scores the fixed texts. Base never changes, so it is scored once a process."""

    def __init__(self, backbone: Backbone, chat: ChatFormat):
        self._backbone = backbone
        self._probes = probes(chat)

    def record(self, own: str, parent: str | None) -> dict:
        """The content of behaviour.json: log-probabilities in nats, and the precision of the products behind them.

        `own`, `parent`: adapters of the backbone. `parent` is None when the parent is the base.
        """
        columns = {
            "own": self._score(own),
            "parent": self._score(parent) if parent else self._base,
            "base": self._base,
        }
        items = enumerate(self._probes)
        return {
            "dtype": self._backbone.dtype,
            "items": [asdict(probe) | {who: columns[who][i] for who in columns} for i, probe in items],
        }

    @cached_property
    def _base(self) -> Scores:
        return self._score(None)

    @torch.no_grad()
    def _score(self, adapter: str | None) -> Scores:
        """Log-probability of each probe's response tokens under one adapter (None: base), at temperature 1."""
        scores = []
        for number, item in enumerate(self._probes):
            prompt, response = item.token_ids[: item.start], item.token_ids[item.start :]
            batch = collate([make_row(str(number), prompt, [response], len(item.token_ids))])
            scores.append(self._backbone.logprobs(batch, adapter).tolist())
        return scores

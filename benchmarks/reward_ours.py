"""Our reward model trained on a fold, for `benchmarks.reward_quality`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from benchmarks.pairs import Pair, preference
from benchmarks.reward_states import KeptStates
from heliotrope.chat import ChatFormat
from learner.backbone import Backbone
from learner.examples import rows_of
from learner.lora import LoraShape, Reach
from learner.reward import RewardModel
from learner.reward_net import REWARD
from learner.reward_steps import RewardSettings

PART = 200
"""Pairs learned between two lines of progress."""


class Trained:
    """A model that has seen one fold's training pairs once."""

    def __init__(self, model: RewardModel, chat: ChatFormat, prequential: list[float]) -> None:
        self._model = model
        self._chat = chat
        self.prequential = prequential
        """1 or 0 for each training pair, predicted before it was learned from."""

    def margins(self, pairs: Sequence[Pair]) -> tuple[list[float], list[int]]:
        """Reward of chosen minus rejected, and tokens of chosen minus rejected, one a pair."""
        examples = [preference(pair, self._chat) for pair in pairs]
        scores = self._model.score(rows_of(examples, 1 << 20)[0])
        lengths = [len(e.chosen_ids) - len(e.rejected_ids) for e in examples]
        return [scores[e.id][0] - scores[e.id][1] for e in examples], lengths


def train(pairs: Sequence[Pair], chat: ChatFormat, arguments: argparse.Namespace) -> Trained:
    """One pass over the pairs in their order. The lower layers' states are kept for the other folds."""
    reach = Reach(arguments.layers, arguments.depth)
    backbone, store = _base(arguments.model, arguments.rank, reach, arguments.work)
    settings = RewardSettings(
        learning_rate=arguments.learning_rate,
        replay=arguments.replay,
        max_tokens=1 << 20,
        person_share=1.0,
    )
    model = RewardModel(backbone, store, settings)
    examples = [preference(pair, chat) for pair in pairs]
    right: list[float] = []
    for start in range(0, len(examples), PART):
        right += [p.right for p in model.learn(examples[start : start + PART])]
        recent = right[-PART:]
        print(f"{len(right)} pairs, {sum(recent) / len(recent):.3f} of the last", file=sys.stderr, flush=True)
    return Trained(model, chat, right)


@cache
def _base(model: Path, rank: int, reach: Reach, work: Path) -> tuple[Backbone, KeptStates]:
    shape = LoraShape(rank=rank, alpha=2.0 * rank)
    backbone = Backbone.load(model, shape, adapters=(REWARD,), reach={REWARD: reach})
    return backbone, KeptStates(work / f"rows-{model.name}-{backbone.first_layer(REWARD)}")

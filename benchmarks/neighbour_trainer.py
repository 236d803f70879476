"""A learner's training without its loop, for ever: `python -m benchmarks.neighbour_trainer PAIRS SERVING`.

SERVING: the private address of who is asked for people before each step, as the learner does.
A JSON line on stdout for each step: when it ended, monotonic seconds, and of how many pairs it was.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

from benchmarks.pairs import fitting, preference
from heliotrope.chat import ChatFormat
from heliotrope.config import load
from learner.backbone import Backbone
from learner.courtesy import give_way, most_people
from learner.dpo import ADAPTER, DpoSettings, Progress, train_policy
from learner.prepared import PreparedStore
from learner.samples import Sampler

PAIRS = 32
STEP = 4
"""Pairs of a step: a phase should have many."""
LONGEST = 384
"""Tokens of a prompt with its longer response: of a length that people's chats here have."""


def main() -> None:
    """Until killed."""
    config = load()
    os.nice(config.learner.nice)
    chat = ChatFormat.load(config.model.folder, config.model.system_prompt)
    chosen = [preference(pair, chat) for pair in islice(fitting(Path(sys.argv[1]), chat, LONGEST), PAIRS)]
    backbone = Backbone.configured(config, (ADAPTER,))
    serving = Sampler(sys.argv[2])
    settings, store = replace(DpoSettings.of(config), batch_pairs=STEP), PreparedStore()

    def step(progress: Progress) -> None:
        print(json.dumps([time.monotonic(), len(chosen) // progress.steps]), flush=True)
        give_way(serving.people, most_people())

    for seed in count(1):
        train_policy(backbone, chosen, [1.0] * len(chosen), replace(settings, seed=seed), store, step)


if __name__ == "__main__":
    main()

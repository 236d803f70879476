"""How much memory do policy, reference, parent, reward model and both optimisers take in one process?
`python -m benchmarks.memory --pairs FILE`; JSON last.

Against the training of one policy by the same code on the same pairs; each side is a process of its own, and its figure the
highest resident memory of that process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Literal

from benchmarks.pairs import fitting, preference
from benchmarks.train_job import peak_gb
from feedback.examples import Preference
from heliotrope.chat import ChatFormat
from heliotrope.config import Config, load
from learner.backbone import Backbone
from learner.dpo import ADAPTER, DpoSettings, train_policy
from learner.parts import PARENT
from learner.prepared import PreparedStore
from learner.reward import RewardModel
from learner.reward_net import REWARD
from learner.reward_steps import RewardSettings

Side = Literal["one", "all"]


def train(side: Side, config: Config, examples: list[Preference]) -> None:
    """One update of the policy; of all also one of the reward model, which stays."""
    everybody = side == "all"
    adapters = (ADAPTER, PARENT, REWARD) if everybody else (ADAPTER,)
    backbone = Backbone.configured(config, adapters)
    store = PreparedStore()
    if everybody:
        RewardModel(backbone, store, RewardSettings.of(config)).learn(examples)
    train_policy(backbone, examples, [1.0] * len(examples), DpoSettings.of(config), store)


def main() -> None:
    """The command line; with --side one of its processes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="JSON Lines of people's pairs to train on")
    parser.add_argument("--count", type=int, default=32, help="of them")
    parser.add_argument("--max-tokens", type=int, default=512, help="of a prompt with its longer response")
    parser.add_argument("--side", choices=("one", "all"), help="be one side and print its figure")
    asked = parser.parse_args()
    if asked.side:
        config = load()
        chat = ChatFormat.load(config.model.folder, config.model.system_prompt)
        pairs = islice(fitting(asked.pairs, chat, asked.max_tokens), asked.count)
        train(asked.side, config, [preference(pair, chat) for pair in pairs])
        print(peak_gb("cpu"))
        return
    command = [sys.executable, "-m", "benchmarks.memory", *sys.argv[1:], "--side"]
    found = {}
    for side in ("one", "all"):
        done = subprocess.run([*command, side], stdout=subprocess.PIPE, text=True, check=True)
        found[f"{side}_gb"] = float(done.stdout)
    print(json.dumps(found | {"ratio": found["all_gb"] / found["one_gb"]}))


if __name__ == "__main__":
    main()

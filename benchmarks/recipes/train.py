"""Every recipe on one crowd's votes, in a process of its own with one thread."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.recipes.votes import pairs
from feedback.examples import Preference
from heliotrope.config import Config, load
from learner.backbone import Backbone, LoraShape
from learner.dpo import ADAPTER, DpoSettings, train_policy
from learner.mixture import Mixture
from learner.prepared import PreparedStore


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    for name, kind in {"work": Path, "config": Path, "seed": int, "votes": int}.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--recipes", nargs="+", required=True)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    votes = pairs(wanted.work / "base-asked.jsonl", wanted.votes, wanted.seed)
    stores: dict[int, PreparedStore] = {}
    for recipe in wanted.recipes:
        folder = wanted.work / f"{recipe},votes={wanted.votes},seed={wanted.seed}"
        if not (folder / "figures.json").exists():
            config = load(None, changes(wanted.config, recipe))
            store = stores.setdefault(config.lora.first_layer, PreparedStore(4 << 30))
            figures = train(config, votes, store, folder, wanted.seed)
            (folder / "figures.json").write_text(json.dumps(figures))


def changes(file: Path, recipe: str) -> list[str]:
    """Overrides of the configuration: the file's sections that training reads, then the recipe's."""
    data = tomllib.loads(file.read_text())
    own = [f"{s}.{k}={v}" for s in ("lora", "dpo", "mixture") for k, v in data.get(s, {}).items()]
    return own + ([] if recipe == "demo" else recipe.split(","))


def train(
    config: Config, votes: list[Preference], store: PreparedStore, folder: Path, seed: int
) -> dict[str, float]:
    """One update from base; the adapter goes into `folder`."""
    torch.manual_seed(seed)
    backbone = Backbone.load(config.model.folder, LoraShape(**config.lora.model_dump()))
    backbone.reset(ADAPTER, seed)
    settings = DpoSettings(
        **config.dpo.model_dump(), mixture=Mixture(**config.mixture.model_dump()), seed=seed
    )

    def progress(at: object) -> None:
        print(f"{folder.name}: {at}", file=sys.stderr, flush=True)

    done = train_policy(backbone, votes, [1.0] * len(votes), settings, store, progress)
    backbone.save_adapter(ADAPTER, folder)
    return {**asdict(done.first), "seconds": done.seconds, "steps": done.steps}


if __name__ == "__main__":
    os.nice(5)
    main()

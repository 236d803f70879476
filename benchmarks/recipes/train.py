"""Every recipe on one crowd's votes, in a process of its own with one thread."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tomllib
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import torch

from benchmarks.recipes.draw import write_whole
from benchmarks.recipes.votes import Votes, base_files, votes
from feedback.agreement import agreement
from heliotrope.config import Config, load
from heliotrope.errors import ConfigError
from learner.backbone import Backbone
from learner.dpo import ADAPTER, DpoSettings, train_policy
from learner.prepared import PreparedStore

SECTIONS = ("lora", "dpo", "mixture")
"""Of the configuration: what training reads."""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    options = {
        "work": Path,
        "config": Path,
        "seed": int,
        "votes": int,
        "tokens": int,
        "flip": float,
        "thumbs": int,
    }
    for name, kind in options.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--recipes", nargs="+", required=True)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    answers = base_files(wanted.work, wanted.tokens)[0]
    said = votes(answers, wanted.votes, wanted.seed, wanted.flip, wanted.thumbs)
    stores: dict[tuple[int, str], PreparedStore] = {}
    for recipe in wanted.recipes:
        folder = place(wanted, recipe, wanted.seed)
        if not (folder / "figures.json").exists():
            config = load(None, changes(wanted.config, recipe))
            store = stores.setdefault((config.lora.first_layer, config.lora.dtype), PreparedStore(4 << 30))
            figures = train(config, said, store, folder, wanted.seed)
            write_whole(folder / "figures.json", json.dumps(figures))


def changes(file: Path, recipe: str) -> list[str]:
    """Overrides of the configuration: the file's sections that training reads, then the recipe's."""
    data = tomllib.loads(file.read_text())
    own = [f"{s}.{k}={v}" for s in SECTIONS for k, v in data.get(s, {}).items()]
    changed = [] if recipe == "demo" else recipe.split(",")
    for change in changed:
        if change.split(".")[0] not in SECTIONS:
            raise ConfigError(
                f"recipe {recipe!r}: {change!r} is not of the sections {', '.join(SECTIONS)}, which are all that training reads"
            )
    return own + changed


def place(wanted: argparse.Namespace, recipe: str, seed: int) -> Path:
    """The folder of a recipe for a crowd, named after all that its figures hang on: another setting is another folder."""
    hangs_on = [*changes(wanted.config, recipe), f"votes={wanted.votes}", f"tokens={wanted.tokens}"]
    hangs_on += [f"{name}={value}" for name in ("flip", "thumbs") if (value := getattr(wanted, name))]
    return wanted.work / f"{recipe},seed={seed},{sha256(repr(hangs_on).encode()).hexdigest()[:8]}"


def train(config: Config, said: Votes, store: PreparedStore, folder: Path, seed: int) -> dict[str, float]:
    """One update from base; the adapter goes into `folder`."""
    torch.manual_seed(seed)
    backbone = Backbone.configured(config, (ADAPTER,))
    backbone.reset(ADAPTER, seed)
    flips = agreement(said.shared).label_flips or 0.0
    settings = replace(DpoSettings.of(config, flips), seed=seed)

    def progress(at: object) -> None:
        print(f"{folder.name}: {at}", file=sys.stderr, flush=True)

    told = [*said.decided, *said.thumbs]
    done = train_policy(backbone, told, [1.0] * len(told), settings, store, progress)
    backbone.save_adapter(ADAPTER, folder)
    crowd = {
        "wrong": said.wrong,
        "flips_by_agreement": flips,
        "thumbs_up": sum(thumb.up for thumb in said.thumbs),
    }
    return {**crowd, **asdict(done.first), "seconds": done.seconds, "steps": done.steps}


if __name__ == "__main__":
    os.nice(5)
    main()

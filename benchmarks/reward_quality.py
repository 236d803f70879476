"""Does the reward model learn what people mean? Accuracy on unseen human pairs, by folds, beside the words alone.

Pairs of one prompt share a fold. Training is one prequential pass, as in the product. Intervals are bootstrapped over
prompts. Each fold's result is kept under `--work`, so a run can be stopped and taken up. `--trl N` also trains TRL's
RewardTrainer and ours on one same split of N pairs (slow).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.clustered import calibration_error, correlation, interval, right
from benchmarks.pairs import Pair
from benchmarks.reward_folds import Data, Seen, measured
from benchmarks.reward_ours import train
from benchmarks.train_settings import SETTINGS
from heliotrope.chat import ChatFormat
from heliotrope.settings.base import Model
from heliotrope.settings.learner import Reward

TRAINED = ("hh-rlhf-harmless", "oasst")


def main() -> None:
    """Measure, and print JSON as the last line."""
    arguments = _arguments()
    chat = ChatFormat.load(arguments.model)
    data = Data.load(arguments, chat)
    found = [
        measured(number, data, chat, arguments) for number in arguments.run_folds or range(arguments.folds)
    ]
    seen = [item for fold in found for item in fold.core]
    others = [item for fold in found for item in fold.others]
    report: dict[str, object] = {
        "trained_sources": {source: _figures(_of(seen, source)) for source in arguments.sources},
        "all_trained": _figures(seen),
        "other_sources": {s: _figures(_of(others, s)) for s in sorted({e.source for e in others})},
        "raters_agree": _figures([item for fold in found for item in fold.raters]),
        "prequential": float(np.mean([share for fold in found for share in fold.prequential])),
        "left_out": data.left_out,
        "folds": [len(found), arguments.folds],
        "trained_on": [fold.trained_on for fold in found],
        "seconds": [round(fold.seconds) for fold in found],
        "settings": {
            name: getattr(arguments, name)
            for name in ("max_tokens", "depth", "layers", "learning_rate", "replay")
        },
    }
    if arguments.trl:
        report["same_split"] = _same_split(data.core, chat, arguments)
    print(json.dumps(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reward_quality", description=__doc__)
    add, product = parser.add_argument, Reward()
    add("--pairs", type=Path, required=True, help="JSON Lines of prompt, chosen, rejected, id, source")
    add("--votes", type=Path, help="JSON Lines of items with three raters' votes each")
    add("--work", type=Path, default=Path("state/reward_quality"), help="folder that keeps finished folds")
    add("--model", type=Path, default=Model().folder, help="folder of the base model")
    add("--sources", nargs="+", default=list(TRAINED), help="sources that are trained on, by folds")
    add("--limit", type=int, help="so many pairs of them, chosen by id; all otherwise")
    add("--others", type=int, default=200, help="pairs of other sources that the first fold's model is shown")
    add("--folds", type=int, default=5)
    add(
        "--run-folds", type=int, nargs="+", help="which of the folds are measured and reported; all otherwise"
    )
    add("--max-tokens", type=int, default=4096, help="longest row of prompt and both responses")
    add("--depth", type=float, default=product.depth, help="share of the layers after which it reads")
    add("--layers", type=int, default=product.layers, help="layers that the adapter covers below that")
    add("--rank", type=int, default=16)
    add("--learning-rate", type=float, default=product.learning_rate)
    add("--replay", type=float, default=product.replay, help="old pairs rehearsed beside each new one")
    add("--trl", type=int, default=0, help="training pairs of the split that TRL's trainer sees too")
    add("--trl-learning-rate", type=float, default=1e-4, help="of TRL's side")
    add("--trl-setting", choices=SETTINGS, default="float32", help="of TRL's side")
    return parser.parse_args()


def _of(seen: Sequence[Seen], source: str) -> list[Seen]:
    return [item for item in seen if item.source == source]


def _figures(seen: Sequence[Seen]) -> dict[str, object]:
    if not seen:
        return {"pairs": 0}
    ours, words = np.array([s.ours for s in seen]), np.array([s.words for s in seen])
    lengths, prompts = np.array([s.length for s in seen]), [s.prompt for s in seen]
    shorter = lengths < 0
    return {
        "pairs": len(seen),
        "accuracy": interval(right(ours), prompts),
        "words_accuracy": interval(right(words), prompts),
        "gain": interval(right(ours) - right(words), prompts),
        "calibration_error": calibration_error(ours),
        "length_correlation": correlation(ours, lengths),
        "accuracy_where_shorter_chosen": float(right(ours[shorter]).mean()) if shorter.any() else None,
        "words_where_shorter_chosen": float(right(words[shorter]).mean()) if shorter.any() else None,
        "shorter_chosen": int(shorter.sum()),
    }


def _same_split(core: Sequence[Pair], chat: ChatFormat, arguments: argparse.Namespace) -> dict[str, object]:
    """Held-out accuracy after one pass over the same training pairs in the same order: the product's own model, and TRL's
    RewardTrainer with an adapter of the same rank on all layers, in a process of its own."""
    from benchmarks.train import need, run_side
    from benchmarks.train_job import Job, write_pairs

    known, rest = core[: arguments.trl], core[arguments.trl :]
    ours = right(np.array(train(known, chat, arguments).margins(rest)[0]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = Job(
            task="reward",
            model=str(arguments.model),
            train=write_pairs(folder / "train.jsonl", list(known)),
            warm=write_pairs(folder / "warm.jsonl", list(known[:8])),
            held_out=write_pairs(folder / "held_out.jsonl", list(rest)),
            order=tuple(pair.id for pair in known),
            setting=arguments.trl_setting,
            rank=arguments.rank,
            alpha=2.0 * arguments.rank,
            learning_rate=arguments.trl_learning_rate,
        )
        theirs = need(run_side("trl", job)).accuracy
    found = interval(ours, [pair.prompt for pair in rest])
    return {"ours": found, "trl": theirs, "train": len(known), "held_out": len(rest)}


if __name__ == "__main__":
    main()

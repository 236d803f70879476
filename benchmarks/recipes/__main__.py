"""How much a training recipe gains, and how much of that is luck: `python -m benchmarks.recipes`; JSON last.

The demo without the loop. Base answers the simulated people's prompts, a crowd of each seed votes on pairs of the
answers, every recipe trains on those votes, and its policy answers the kept prompts, judged by the hidden utility as
the demo judges. What is drawn and trained is kept in --work: a run that was cut off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.recipes.compare import Shares, difference
from benchmarks.recipes.draw import Drawer, replies
from benchmarks.recipes.train import changes, place
from benchmarks.recipes.votes import DRAWS, base_files
from deploy.demo import FILE
from heliotrope.config import load
from heliotrope.simulate import report
from heliotrope.simulate.judging import Samples, wins_by_prompt
from heliotrope.simulate.prompts import asked, kept


def main() -> None:
    """See the module."""
    wanted = arguments()
    for recipe in wanted.recipes:
        load(None, changes(wanted.config, recipe))  # a wrong one is refused before anything is drawn
    wanted.work.mkdir(parents=True, exist_ok=True)
    base = base_files(wanted.work, wanted.tokens)
    if not all(file.exists() for file in base):
        asyncio.run(draw_base(wanted, *base))
    train(wanted)
    print(json.dumps(asyncio.run(judge(wanted, replies(base[1])))))


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__)
    add = parser.add_argument
    add(
        "--work", type=Path, default=Path("state/recipes"), help="folder that keeps what is drawn and trained"
    )
    add("--config", type=Path, default=FILE, help="what a recipe changes; default: the demo's")
    add(
        "--recipes",
        nargs="+",
        default=["demo"],
        metavar="KEY=VALUE,KEY=VALUE",
        help="demo: nothing is changed; all others are compared with the first",
    )
    add("--seeds", nargs="+", type=int, default=[1, 2], help="crowds, each with votes of its own")
    add("--votes", type=int, default=400, help="decided votes that are trained on")
    add("--flip", type=float, default=0.0, help="share of votes turned round, beside what people have wrong")
    add("--thumbs", type=int, default=0, help="on single answers, trained on beside the votes")
    add("--samples", type=int, default=2, help="of each policy to each kept prompt")
    add("--tokens", type=int, default=32, help="of an answer")
    wanted = parser.parse_args()
    wanted.recipes = list(dict.fromkeys(wanted.recipes))
    return wanted


async def draw_base(wanted: argparse.Namespace, for_votes: Path, for_judging: Path) -> None:
    """Base's answers, to be voted on and to be judged against."""
    async with Drawer.open(wanted.tokens) as drawer:
        await drawer.draw(for_judging, kept(), DRAWS)
        await drawer.draw(for_votes, asked(), DRAWS)


def train(wanted: argparse.Namespace) -> None:
    """Every recipe on every crowd's votes: a process with one thread for each crowd, side by side."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.recipes.train",
        "--work",
        wanted.work,
        "--config",
        wanted.config,
    ]
    options = [
        "--votes",
        wanted.votes,
        "--tokens",
        wanted.tokens,
        "--flip",
        wanted.flip,
        "--thumbs",
        wanted.thumbs,
        "--recipes",
        *wanted.recipes,
    ]
    running = [subprocess.Popen([*map(str, [*command, "--seed", seed, *options])]) for seed in wanted.seeds]
    failed = [process.args for process in running if process.wait()]
    if failed:
        sys.exit(f"training failed, see above: {failed}")


async def judge(wanted: argparse.Namespace, base: Samples) -> dict[str, list[dict[str, object]]]:
    """Each policy's answers to the kept prompts against base's, and each recipe against the first."""
    found, wins = [], dict[str, list[Shares]]()
    async with Drawer.open(wanted.tokens) as drawer:
        for recipe in wanted.recipes:
            for seed in wanted.seeds:
                folder = place(wanted, recipe, seed)
                file = folder / f"kept-{wanted.samples}.jsonl"
                if not file.exists():
                    await drawer.draw(file, kept(), wanted.samples, folder)
                about = {"recipe": recipe, "seed": seed, **json.loads((folder / "figures.json").read_text())}
                found.append(about | asdict(report.judge(base, replies(file))))
                print(json.dumps(found[-1]), file=sys.stderr, flush=True)
                wins.setdefault(recipe, []).append(wins_by_prompt(replies(file), base))
    first, *others = wanted.recipes
    against = [
        {"recipe": recipe, "against": first} | difference(wins[recipe], wins[first]) for recipe in others
    ]
    return {"policies": found, "differences": against}


if __name__ == "__main__":
    main()

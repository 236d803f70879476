"""TRL's trainers and ours on the same pairs, model, LoRA, token ids and steps: pairs a second, memory, loss, accuracy.

Each training is a process of its own, ours and TRL's in turn; figures are medians. The clock starts at texts and ends
at the trained adapter, so tokenising and reference passes are inside it; loading the model and a warm-up step are not.
TRL's settings are tried first, once each and on a few of the pairs, and its fastest one is what is compared. Ours is bfloat16 where
the hardware multiplies it, as TRL's may be; adapters and optimisers are float32 on both sides. All tables go to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from statistics import median

from benchmarks.pairs import fitting
from benchmarks.train_job import TASKS, Job, Outcome, write_pairs
from benchmarks.train_settings import SETTINGS
from heliotrope.arithmetic import dtype_here
from heliotrope.chat import ChatFormat
from heliotrope.settings.base import Model

MEMORY_KEPT = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592"
}
"""What is freed stays with the process. As it is installed, glibc gives a step's logits back to the kernel, which clears them anew each
time: that can take TRL as long as the training does. Ours holds none that are so large."""


def main() -> None:
    """Measure, and print JSON as the last line."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        job, trial = prepare(arguments, Path(folder))
        report: dict[str, object] = {
            task: _task(replace(job, task=task), replace(trial, task=task), arguments)
            for task in arguments.only
        }
    report |= {
        "device": arguments.device,
        "pairs": arguments.pairs_count,
        "batch": arguments.batch,
        "max_tokens": arguments.max_tokens,
        "dtype": job.dtype,
    }
    print(json.dumps(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    add = parser.add_argument
    add("--pairs", type=Path, required=True, help="JSON Lines of prompt, chosen, rejected, id, source")
    add("--model", type=Path, default=Model().folder, help="folder of the base model")
    add("--only", nargs="+", choices=TASKS, default=list(TASKS), help="trainers to compare")
    add("--pairs-count", type=int, default=64, help="pairs that are trained on and timed")
    add("--held-out", type=int, default=128, help="pairs that accuracy is measured on")
    add("--max-tokens", type=int, default=512, help="longest prompt with response; longer pairs are left out")
    add("--batch", type=int, default=8, help="pairs of one step")
    add("--alternations", type=int, default=3, help="trainings of each side; 0: only try TRL's settings")
    add("--try-pairs", type=int, default=16, help="pairs that each of TRL's settings is tried on")
    add("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="TRL's settings to try")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of our frozen base")
    add("--threads", type=int, default=0, help="CPU threads of either side; 0: all cores")
    return parser.parse_args()


def prepare(arguments: argparse.Namespace, folder: Path) -> tuple[Job, Job]:
    """Choose pairs by their ids alone, those that fit, and write them down for the processes. Second: the trial of a setting."""
    if arguments.pairs_count % arguments.batch:
        raise SystemExit(
            f"--pairs-count {arguments.pairs_count} is not whole steps of --batch {arguments.batch}"
        )
    chat = ChatFormat.load(arguments.model)
    wanted = arguments.batch + arguments.pairs_count + arguments.held_out
    chosen = list(islice(fitting(arguments.pairs, chat, arguments.max_tokens), wanted))
    if len(chosen) < wanted:
        raise SystemExit(f"only {len(chosen)} pairs fit {arguments.max_tokens} tokens, {wanted} wanted")
    warm, rest = chosen[: arguments.batch], chosen[arguments.batch :]
    job = Job(
        task="dpo",
        model=str(arguments.model),
        warm=write_pairs(folder / "warm.jsonl", warm),
        train=write_pairs(folder / "train.jsonl", rest[: arguments.pairs_count]),
        held_out=write_pairs(folder / "held_out.jsonl", rest[arguments.pairs_count :]),
        batch=arguments.batch,
        max_tokens=arguments.max_tokens,
        device=arguments.device,
        dtype=dtype_here(arguments.dtype, arguments.device == "cuda"),
        threads=arguments.threads,
    )
    tried = write_pairs(folder / "tried.jsonl", rest[: arguments.try_pairs])
    return job, replace(job, train=tried, held_out=job.warm)


def _task(job: Job, trial: Job, arguments: argparse.Namespace) -> dict[str, object]:
    """Both sides of one trainer, alternating."""
    tried = {name: run_side("trl", replace(trial, setting=name)) for name in arguments.settings}
    worked = {name: outcome for name, outcome in tried.items() if outcome}
    if not worked:
        raise SystemExit(f"{job.task}: no setting of TRL worked; see the lines above")
    settings = {name: {"seconds": o.seconds, "peak_gb": o.peak_gb} for name, o in worked.items()}
    if not arguments.alternations:
        return {"trl_settings": settings}
    best = min(worked, key=lambda name: worked[name].seconds)
    ours, theirs = list[Outcome](), list[Outcome]()
    for _ in range(arguments.alternations):
        ours.append(need(run_side("ours", job)))
        job = replace(job, order=ours[0].order)
        theirs.append(need(run_side("trl", replace(job, setting=best))))
    if ours[0].fingerprint != theirs[0].fingerprint:
        raise SystemExit(f"{job.task}: the two sides trained on different token ids; the comparison is void")
    kept = _median([need(run_side("trl", replace(job, setting=best), MEMORY_KEPT))], arguments.pairs_count)
    mine, other = (_median(side, arguments.pairs_count) for side in (ours, theirs))
    cached = [need(run_side("ours", replace(job, setting="cached")))] if job.task in ("dpo", "kto") else []
    return {
        "ours": mine,
        "trl": other | {"setting": best},
        "trl_settings": settings,
        **({"ours_cached": _median(cached, arguments.pairs_count)} if cached else {}),
        "trl_memory_kept": kept,
        "speedup": mine["pairs_per_s"] / other["pairs_per_s"],
        "memory_ratio": mine["peak_gb"] / other["peak_gb"],
    }


def run_side(side: str, job: Job, extra: dict[str, str] | None = None) -> Outcome | None:
    """One process, with `extra` in its environment; its figures to stderr. None when it failed, with the last line of its complaint."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", f"benchmarks.train_{side}", replace(job, scratch=scratch).dumps()]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | (extra or {})
        )
    label = f"{job.task:6} {side:4} {job.setting or '-':24}"
    if done.returncode:
        print(f"{label} failed: {_complaint(done)}", file=sys.stderr)
        return None
    values = json.loads(done.stdout.strip().splitlines()[-1])
    outcome = Outcome(**values | {"order": tuple(values["order"])})
    figures = {name: round(value, 4) for name, value in asdict(outcome).items() if isinstance(value, float)}
    print(f"{label} {json.dumps(figures)}", file=sys.stderr, flush=True)
    return outcome


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}; 9 is the kernel's when memory runs out"
    return (done.stderr.strip() or "no word").splitlines()[-1]


def need(outcome: Outcome | None) -> Outcome:
    if outcome is None:
        raise SystemExit("a side failed; see the line above")
    return outcome


def _median(outcomes: Sequence[Outcome], pairs: int) -> dict[str, float]:
    return {
        "pairs_per_s": median(pairs / outcome.seconds for outcome in outcomes),
        "peak_gb": median(outcome.peak_gb for outcome in outcomes),
        "loss": median(outcome.loss for outcome in outcomes),
        "accuracy": median(outcome.accuracy for outcome in outcomes),
    }


if __name__ == "__main__":
    main()

"""Our side of `benchmarks.train`: one training in one process. `python -m benchmarks.train_ours JOB`.

Policies are trained by the learner's own `train_policy`, on examples as the learner makes them: KTO on two thumbs of each pair,
SFT on its chosen response.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from math import nan
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.pairs import fingerprint, preference
from benchmarks.train_job import Job, Outcome, Task, peak_gb, read_pairs
from benchmarks.train_losses import reward_works
from feedback.examples import Demonstration, Preference, Thumb
from heliotrope.chat import ChatFormat
from learner import heap
from learner.backbone import Backbone
from learner.dpo import ADAPTER, DpoSettings, evaluate, train_policy
from learner.examples import rows_of
from learner.lessons import lessons_of
from learner.lora import LoraShape
from learner.prepared import PreparedStore
from learner.reward_net import REWARD, RewardNet
from learner.reward_steps import RewardSettings
from learner.rows import batches
from learner.steps import schedule, step

Taught = Preference | Thumb | Demonstration


class Side:
    """The parts of one process; each call trains from a fresh adapter."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.chat = ChatFormat.load(Path(job.model))
        adapters = (REWARD,) if job.task == "reward" else (ADAPTER,)
        shape = LoraShape(rank=job.rank, alpha=job.alpha)
        self.backbone = Backbone.load(Path(job.model), shape, getattr(torch, job.dtype), adapters)
        self.net: RewardNet | None = None

    def preferences(self, file: str) -> list[Preference]:
        """Tokenise the pairs of a file."""
        return [preference(pair, self.chat) for pair in read_pairs(file)]

    def examples(self, file: str) -> list[Taught]:
        """What the task learns from of a file's pairs."""
        return [made for pair in self.preferences(file) for made in taught(self.job.task, pair)]

    def train(self, examples: Sequence[Taught], store: PreparedStore) -> tuple[float, tuple[str, ...]]:
        """One pass from a fresh adapter; the mean loss, and the order."""
        if self.job.task == "reward":
            return self._rewards([e for e in examples if isinstance(e, Preference)], store)
        self.backbone.reset(ADAPTER, seed=1)
        shares = [float(len(e.response_ids)) if isinstance(e, Demonstration) else 1.0 for e in examples]
        update = train_policy(self.backbone, examples, shares, policy_settings(self.job), store)
        return update.first.loss, update.example_ids

    def _rewards(self, examples: Sequence[Preference], store: PreparedStore) -> tuple[float, tuple[str, ...]]:
        """The head takes the adapter's step, as TRL's does."""
        rows, _ = rows_of(examples, 1 << 20)
        self.net = RewardNet(self.backbone, seed=1, head_step=1.0)
        count, losses = self.job.batch, []
        plan = [rows[i : i + count] for i in range(0, len(rows), count)]
        for number, part in enumerate(plan, 1):
            rate = self.job.learning_rate * schedule(number, len(plan))
            works, workers = reward_works(self.backbone, store, self.net, part, RewardSettings.token_budget)
            with self.backbone.worn(REWARD):
                taken = step(self.net.adam, works, workers, rate)
            heap.give_back()
            losses.append(taken.loss if taken.finite else nan)
        return sum(losses) / len(losses), tuple(row.id for row in rows)


def taught(task: Task, pair: Preference) -> list[Taught]:
    """The examples of a task that a pair makes."""
    said = {
        key: getattr(pair, key)
        for key in ("prompt_ids", "user", "conversation", "time", "source", "event_ids")
    }
    if task == "kto":
        both = {"up": pair.chosen_ids, "down": pair.rejected_ids}
        return [
            Thumb(id=f"{pair.id}/{way}", response_ids=ids, up=way == "up", **said)
            for way, ids in both.items()
        ]
    if task == "sft":
        return [Demonstration(id=pair.id, response_ids=pair.chosen_ids, **said)]
    return [pair]


def policy_settings(job: Job) -> DpoSettings:
    """Of the benchmark: one pass, as many examples a step as TRL's batch, nothing refused."""
    return DpoSettings(
        learning_rate=job.learning_rate,
        batch_pairs=job.batch * (2 if job.task == "kto" else 1),
        max_tokens=1 << 20,
    )


def held_out_accuracy(job: Job, folder: Path) -> float:
    """Share of the job's held-out pairs that the saved policy adapter orders as people did, in float32: after some steps of training
    margins are smaller than what bfloat16 rounds."""
    side = Side(replace(job, dtype="float32"))
    side.backbone.load_adapter(ADAPTER, folder)
    unseen = side.preferences(job.held_out)
    seen = evaluate(side.backbone, unseen, policy_settings(job), PreparedStore())
    return seen.accuracy if seen else 0.0


def main() -> None:
    """Train, then print the outcome as JSON on the last line."""
    job = Job.loads(sys.argv[1])
    if job.threads:
        torch.set_num_threads(job.threads)
    torch.set_default_device(job.device)
    side = Side(job)
    side.train(side.examples(job.warm), PreparedStore())
    store = PreparedStore()
    if job.setting == "cached":
        examples = side.examples(job.train)
        lessons, _ = lessons_of(examples, {e.id: 1.0 for e in examples}, 1 << 20)
        store.prepare(side.backbone, [lesson.row for lesson in lessons])
    began = perf_counter()
    examples = side.examples(job.train)
    loss, order = side.train(examples, store)
    seconds = perf_counter() - began
    peak = peak_gb(job.device)
    named = fingerprint([ids for example in examples for ids in _sequences(example)])
    print(json.dumps(asdict(Outcome(seconds, peak, loss, _accuracy(side), named, order))), flush=True)


def _sequences(example: Taught) -> list[tuple[int, ...]]:
    """What a trainer of separate rows sees."""
    pair = isinstance(example, Preference)
    responses = [example.chosen_ids, example.rejected_ids] if pair else [example.response_ids]
    return [(*example.prompt_ids, *response) for response in responses]


def _accuracy(side: Side) -> float:
    if side.job.task == "reward":
        return _reward_accuracy(side, side.preferences(side.job.held_out))
    folder = Path(side.job.scratch) / "adapter"
    side.backbone.save_adapter(ADAPTER, folder)
    return held_out_accuracy(side.job, folder)


@torch.no_grad()
def _reward_accuracy(side: Side, unseen: Sequence[Preference]) -> float:
    assert side.net is not None
    right = 0
    for batch in batches(rows_of(unseen, 1 << 20)[0], RewardSettings.token_budget):
        rewards = side.net.rewards(batch, side.backbone.lower(batch)).view(-1, 2)
        right += int((rewards[:, 0] > rewards[:, 1]).sum())
    return right / len(unseen)


if __name__ == "__main__":
    main()

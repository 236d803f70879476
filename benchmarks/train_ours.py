"""Our side of `benchmarks.train`: one training in one process. `python -m benchmarks.train_ours JOB`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from math import nan
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.pairs import fingerprint, preference
from benchmarks.train_job import Job, Outcome, peak_gb, read_pairs
from benchmarks.train_losses import LOSSES
from feedback.examples import Preference
from heliotrope.chat import ChatFormat
from learner.backbone import Backbone, LoraShape
from learner.dpo import ADAPTER, DpoSettings, evaluate, train_policy
from learner.examples import rows_of
from learner.prepared import PreparedStore
from learner.reward_net import REWARD, RewardNet
from learner.rows import batches, make_row
from learner.steps import optimiser, schedule, step


class Side:
    """The parts of one process; each call trains from a fresh adapter."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.chat = ChatFormat.load(Path(job.model))
        adapters = (REWARD,) if job.task == "reward" else (ADAPTER,)
        shape = LoraShape(rank=job.rank, alpha=job.alpha)
        self.backbone = Backbone.load(Path(job.model), shape, adapters=adapters)
        self.net: RewardNet | None = None

    def examples(self, file: str) -> list[Preference]:
        """Tokenise the pairs of a file."""
        return [preference(pair, self.chat) for pair in read_pairs(file)]

    def train(self, examples: Sequence[Preference], store: PreparedStore) -> tuple[float, tuple[str, ...]]:
        """One pass from a fresh adapter; the mean loss, and the order."""
        if self.job.task == "dpo":
            self.backbone.reset(ADAPTER, seed=1)
            settings = dpo_settings(self.job)
            update = train_policy(self.backbone, examples, [1.0] * len(examples), settings, store)
            return update.first.loss, update.example_ids
        return self._pass(examples, store)

    def _pass(self, examples: Sequence[Preference], store: PreparedStore) -> tuple[float, tuple[str, ...]]:
        rows, _ = rows_of(examples, 1 << 20)
        if self.job.task == "sft":
            rows = [make_row(row.id, row.prompt, row.responses[:1], 1 << 20) for row in rows]
        if self.job.task == "kto":
            store.prepare(self.backbone, rows)
        net = RewardNet(self.backbone, seed=1, head_step=1.0) if self.job.task == "reward" else None  # TRL's
        if net is None:
            self.backbone.reset(ADAPTER, seed=1)
        adapter = list(self.backbone.parameters(ADAPTER).values())
        adam = net.adam if net else optimiser(adapter, self.job.learning_rate)
        count, losses = self.job.batch, []
        plan = [rows[i : i + count] for i in range(0, len(rows), count)]
        for number, part in enumerate(plan, 1):
            make = LOSSES[self.job.task](self.backbone, store, net, part)
            rate = self.job.learning_rate * schedule(number, len(plan))
            taken = step(adam, part, make, self.job.token_budget, rate)
            losses.append(taken.loss if taken.finite else nan)
        self.net = net
        return sum(losses) / len(losses), tuple(row.id for row in rows)


def dpo_settings(job: Job) -> DpoSettings:
    """Of the benchmark: one pass, as many pairs a step as TRL's batch, nothing refused."""
    return DpoSettings(
        learning_rate=job.learning_rate,
        batch_pairs=job.batch,
        token_budget=job.token_budget,
        max_tokens=1 << 20,
    )


def held_out_accuracy(job: Job, folder: Path) -> float:
    """Share of the job's held-out pairs that the saved policy adapter orders as people did."""
    side = Side(job)
    side.backbone.load_adapter(ADAPTER, folder)
    return _accuracy(side)


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
        store.prepare(side.backbone, rows_of(side.examples(job.train), 1 << 20)[0])
    began = perf_counter()
    examples = side.examples(job.train)
    loss, order = side.train(examples, store)
    seconds = perf_counter() - began
    peak = peak_gb(job.device)
    named = fingerprint([ids for example in examples for ids in _sequences(job, example)])
    print(json.dumps(asdict(Outcome(seconds, peak, loss, _accuracy(side), named, order))), flush=True)


def _sequences(job: Job, example: Preference) -> list[tuple[int, ...]]:
    """What a trainer of separate rows sees."""
    responses = [example.chosen_ids] if job.task == "sft" else [example.chosen_ids, example.rejected_ids]
    return [(*example.prompt_ids, *response) for response in responses]


def _accuracy(side: Side) -> float:
    unseen = side.examples(side.job.held_out)
    if side.job.task == "reward":
        return _reward_accuracy(side, unseen)
    seen = evaluate(side.backbone, unseen, dpo_settings(side.job), PreparedStore())
    return seen.accuracy if seen else 0.0


@torch.no_grad()
def _reward_accuracy(side: Side, unseen: Sequence[Preference]) -> float:
    assert side.net is not None
    right = 0
    for batch in batches(rows_of(unseen, 1 << 20)[0], side.job.token_budget):
        rewards = side.net.rewards(batch, side.backbone.lower(batch)).view(-1, 2)
        right += int((rewards[:, 0] > rewards[:, 1]).sum())
    return right / len(unseen)


if __name__ == "__main__":
    main()

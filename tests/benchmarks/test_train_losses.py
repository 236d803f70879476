"""Our side of benchmarks.train: a step is the same however it is cut into batches, and starts where it must."""

from __future__ import annotations

from math import log

import pytest

from benchmarks.train_job import Job
from benchmarks.train_losses import LOSSES
from learner.examples import rows_of
from learner.prepared import PreparedStore
from learner.reward_net import REWARD, RewardNet
from learner.rows import batches
from tests.learner.tiny_llama import pairs, tiny_backbone


@pytest.mark.parametrize("task", ["reward", "kto", "sft"])
def test_a_step_does_not_depend_on_how_it_is_cut(task: str):
    backbone, store = tiny_backbone(adapters=("policy", REWARD)), PreparedStore()
    rows, _ = rows_of(pairs(6), 99)
    store.prepare(backbone, rows)
    net = RewardNet(backbone, seed=1) if task == "reward" else None
    loss = LOSSES[task](backbone, store, net, rows)
    whole = sum(loss(batch).item() for batch in batches(rows, 4096))
    cut = sum(loss(batch).item() for batch in batches(rows, 40))
    assert len(batches(rows, 40)) > 2
    assert cut == pytest.approx(whole, rel=1e-5)
    # untaught: both rewards are 0; KTO: log-ratios and reference point are 0, 1 - s(0) = 1/2; SFT: some nats a token
    assert whole == pytest.approx({"reward": log(2), "kto": 0.5}.get(task, whole))


def test_a_job_survives_the_command_line():
    job = Job(task="kto", model="m", train="t", warm="w", held_out="h", order=("b", "a"), setting="float32")
    assert Job.loads(job.dumps()) == job

"""Our side of benchmarks.train: a step is the same however it is cut into batches, and every task learns from all it is given."""

from __future__ import annotations

from math import log
from pathlib import Path

import pytest

from benchmarks.pairs import Pair
from benchmarks.train_job import Job, Task, write_pairs
from benchmarks.train_losses import reward_works
from benchmarks.train_ours import Side
from heliotrope.chat import Message
from learner.examples import rows_of
from learner.prepared import PreparedStore
from learner.reward_net import REWARD, RewardNet
from tests.learner.tiny_llama import pairs, tiny_backbone
from tests.learner.whole_model import whole_model


def test_a_step_does_not_depend_on_how_it_is_cut():
    backbone, store = tiny_backbone(adapters=("policy", REWARD)), PreparedStore()
    rows, _ = rows_of(pairs(6), 99)
    net = RewardNet(backbone, seed=1)
    whole, cut = (
        [work()[0].item() for work in reward_works(backbone, store, net, rows, budget)[0]]
        for budget in (1 << 20, 40)
    )
    assert len(cut) > 2
    assert sum(cut) == pytest.approx(sum(whole), rel=1e-5)
    assert sum(whole) == pytest.approx(log(2)), "untaught: all rewards are 0"


@pytest.mark.parametrize(("task", "examples"), [("dpo", 8), ("reward", 8), ("kto", 16), ("sft", 8)])
def test_every_task_trains_on_all_that_its_pairs_make(task: Task, examples: int, tmp_path: Path):
    texts = [
        ("What is bread?", "Flour and water.", "A kind of food, as they say."),
        ("Why?", "Because.", "No."),
    ]
    given = [
        Pair(f"p{n}", "test", (Message("user", asked),), chosen, rejected)
        for n, (asked, chosen, rejected) in enumerate(texts * 4)
    ]
    file = write_pairs(tmp_path / "pairs.jsonl", given)
    job = Job(
        task=task, model=str(whole_model(tmp_path / "model")), train=file, warm=file, held_out=file, batch=4
    )
    side = Side(job)
    loss, order = side.train(side.examples(job.train), PreparedStore())
    assert len(order) == len(set(order)) == examples
    assert {id.split("/")[0] for id in order} == {pair.id for pair in given}
    begins = {"dpo": log(2), "reward": log(2), "kto": 0.5}
    assert loss == pytest.approx(begins.get(task, loss), abs=0.05) and loss > 0


def test_a_job_survives_the_command_line():
    job = Job(task="kto", model="m", train="t", warm="w", held_out="h", order=("b", "a"), setting="float32")
    assert Job.loads(job.dumps()) == job

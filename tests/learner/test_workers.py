"""Work side by side: in order, one thread each, with the same bits whoever is at work beside it."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

from learner.backbone import REWARD
from learner.dpo import ADAPTER, Diverged, DpoSettings, train_policy
from learner.examples import rows_of
from learner.prepared import PreparedStore
from learner.reward import RewardModel
from learner.workers import side_by_side, workers_on
from tests.learner.tiny_llama import pairs, tiny_backbone

EXAMPLES = pairs(12)


@pytest.mark.parametrize(("workers", "threads", "each"), [(1, 0, 2), (3, 0, 1), (1, 1, 1)])
def test_what_comes_back_is_in_the_items_order_whoever_ends_first(
    workers: int, threads: int, each: int
) -> None:
    gate = threading.Event()

    def work(item: int) -> tuple[int, int]:
        if item == 0 and workers > 1:
            assert gate.wait(30)  # ends only after the last one did
        if item == 2:
            gate.set()
        return item, torch.get_num_threads()

    torch.set_num_threads(2)
    assert list(side_by_side(work, range(3), workers, threads)) == [(n, each) for n in range(3)]
    assert torch.get_num_threads() == 2


def test_the_first_item_that_fails_is_the_one_that_is_raised() -> None:
    def work(item: int) -> int:
        if item:
            raise ValueError(item)
        return item

    with pytest.raises(ValueError, match="^1$"):
        list(side_by_side(work, range(4), 2))


def test_a_gpu_has_one_worker() -> None:
    torch.set_num_threads(2)
    assert [workers_on(torch.device(kind)) for kind in ("cpu", "cuda")] == [2, 1]


def trained(threads: int) -> tuple[str, list[float]]:
    torch.set_num_threads(threads)
    backbone = tiny_backbone(adapters=(ADAPTER, REWARD))
    backbone.reset(ADAPTER, seed=3)
    settings = DpoSettings(learning_rate=1e-3, batch_pairs=4)
    update = train_policy(backbone, EXAMPLES, [1.0] * 12, settings, PreparedStore())
    return backbone.digest(ADAPTER), [at.metrics.loss for at in update.history]


def test_an_update_by_two_workers_is_the_same_every_time_and_that_of_one() -> None:
    (first, losses), (second, _), (_, alone) = trained(2), trained(2), trained(1)
    assert first == second
    assert losses == pytest.approx(alone, rel=1e-5)


def test_an_update_that_goes_wrong_in_a_worker_is_undone_and_the_next_is_as_if_it_had_not_been() -> None:
    torch.set_num_threads(2)
    backbone, store = tiny_backbone(adapters=(ADAPTER, REWARD)), PreparedStore()
    backbone.reset(ADAPTER, seed=3)
    before, settings = backbone.digest(ADAPTER), DpoSettings(learning_rate=1e-3, batch_pairs=4)
    store.prepare(backbone, rows_of(EXAMPLES, 99)[0])
    spoilt = store[EXAMPLES[5].id]
    store._items[EXAMPLES[5].id] = replace(spoilt, reference=spoilt.reference * torch.nan)
    with pytest.raises(Diverged, match=f"not finite in examples {EXAMPLES[5].id}"):
        train_policy(backbone, EXAMPLES, [1.0] * 12, settings, store)
    assert backbone.digest(ADAPTER) == before and torch.get_num_threads() == 2
    train_policy(backbone, EXAMPLES, [1.0] * 12, settings, store)
    assert backbone.digest(ADAPTER) == trained(2)[0]


def test_a_reward_model_of_two_workers_is_the_same_every_time_and_that_of_one() -> None:
    said = []
    for threads in (2, 2, 1):
        torch.set_num_threads(threads)
        model = RewardModel(tiny_backbone(adapters=(ADAPTER, REWARD)), PreparedStore())
        said.append((model.net.digest(), [p.margin for p in model.learn(EXAMPLES)], model.net.digest()))
    assert said[0] == said[1]
    assert said[0][0] != said[0][2] and said[0][1] == pytest.approx(said[2][1], abs=1e-5)

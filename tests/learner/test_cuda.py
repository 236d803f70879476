"""The same code trains on an NVIDIA GPU: it makes of the same pairs what it makes of them on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from learner.backbone import Backbone
from learner.dpo import ADAPTER, DpoSettings, train_policy
from learner.lora import LoraShape
from learner.prepared import PreparedStore
from learner.reward import RewardModel
from learner.reward_net import REWARD
from tests.learner.tiny_llama import pairs, tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no NVIDIA GPU"),
]
EXAMPLES = pairs(32)


@pytest.fixture(autouse=True)
def back_to_cpu() -> Iterator[None]:
    yield
    torch.set_default_device("cpu")


def backbone(device: str, beginning: Path, dtype: torch.dtype = torch.float32) -> Backbone:
    """On the device; every adapter as it is in the folder, which the first one fills."""
    torch.set_default_device(device)
    shape = LoraShape(rank=4, alpha=8.0, first_layer=1)
    made = Backbone.load(tiny_model(), shape, dtype, (ADAPTER, REWARD))
    for adapter in made.adapters:
        if not (beginning / adapter).exists():
            made.save_adapter(adapter, beginning / adapter)
        made.load_adapter(adapter, beginning / adapter)
    return made


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-3), (torch.bfloat16, 5e-2)])
def test_a_policy_learns_the_same(tmp_path: Path, dtype: torch.dtype, most: float) -> None:
    losses = []
    for device in ("cpu", "cuda"):
        settings, made = DpoSettings(learning_rate=1e-3, batch_pairs=8), backbone(device, tmp_path, dtype)
        done = train_policy(made, EXAMPLES, [1.0] * 32, settings, PreparedStore())
        losses.append([at.metrics.loss for at in done.history])
    assert losses[1] == pytest.approx(losses[0], rel=most)


def test_a_reward_model_predicts_the_same(tmp_path: Path) -> None:
    margins = []
    for device in ("cpu", "cuda"):
        model = RewardModel(backbone(device, tmp_path), PreparedStore())
        margins.append([said.margin for said in model.learn(EXAMPLES)])
    assert margins[1] == pytest.approx(margins[0], abs=1e-3)

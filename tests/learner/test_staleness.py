"""What is judged of an older version's words: its drift by the trainer, what it counts for, and that learning bears it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path

import pytest
import torch

from feedback.examples import Preference
from heliotrope.registry import Registry
from learner.backbone import Backbone
from learner.dpo import ADAPTER, DpoSettings, train_policy
from learner.prepared import PreparedStore
from learner.rows import Row, collate
from learner.staleness import Trainer, discount, effective, factor
from tests.heliotrope.small_adapters import manifest
from tests.learner.tiny_llama import pairs, preference, tiny_backbone

LIKED, LENGTH, PROMPTS = 24, 8, 48
"""Tokens below LIKED, a quarter of all, are what people like."""
SETTINGS = DpoSettings(learning_rate=1e-2, batch_pairs=8, beta=0.1)


def test_what_is_said_as_gladly_counts_in_full_and_no_more() -> None:
    assert factor([0.0, 0.7]) == 1.0
    assert factor([-0.5, 0.7]) == pytest.approx(exp(-0.5))
    assert factor([-0.5, -0.25]) == pytest.approx(exp(-0.75))
    assert factor([]) == 1.0


def test_the_effective_sample_size_by_hand() -> None:
    # left: 2, 0.5, 0.5: 3^2 / 4.5 = 2 of them; before: 4^2 / 6 = 8 / 3
    assert effective([2.0, 1.0, 1.0], [1.0, 0.5, 0.5]) == pytest.approx(2 / (8 / 3))
    assert effective([2.0, 1.0, 0.0], [1.0, 1.0, 0.2]) == 1.0


@dataclass
class Chain:
    """Versions that each learned a little more of one taste, on what they said themselves; the newest is `policy-vN`."""

    backbone: Backbone
    store: PreparedStore
    registry: Registry
    count: int = 0

    @property
    def trainer(self) -> Trainer:
        return Trainer(self.backbone, self.store, self.registry, "parent", 99, 4096)

    def hold(self, version: int) -> None:
        """Load a version into the policy."""
        if version == 0:
            self.backbone.reset(ADAPTER, seed=5)
        else:
            self.backbone.load_adapter(ADAPTER, self.registry.read(version).path)

    def said(self, version: int, seed: int) -> list[Preference]:
        """What a version says twice to each of some prompts, with the taste's choice."""
        self.hold(version)
        prompts = [p.prompt_ids for p in pairs(PROMPTS, seed=seed)]
        firsts, seconds = (draw(self.backbone, prompts, seed * 2 + turn) for turn in (0, 1))
        return [
            judged(f"{version}-{seed}-{i}", *both, version)
            for i, both in enumerate(zip(prompts, firsts, seconds, strict=True))
        ]

    def learn(self, preferences: Sequence[Preference], version: int) -> float:
        """Train from a version, less what it would no longer say; the effective sample size."""
        aged = discount(self.trainer, f"policy-v{version}", preferences, [1.0] * len(preferences))
        self.train(preferences, aged.shares, version)
        return aged.effective

    def train(self, preferences: Sequence[Preference], shares: Sequence[float], version: int) -> None:
        """From a version, on what each counts."""
        self.hold(version)
        train_policy(self.backbone, preferences, shares, SETTINGS, self.store)

    def publish(self) -> None:
        """The policy as it is becomes the next version."""

        def stage(folder: Path):
            self.backbone.save_adapter(ADAPTER, folder)
            return manifest()

        self.count += 1
        self.registry.publish(stage)

    @torch.no_grad()
    def taste(self) -> float:
        """How much of its probability the policy gives to what people like, along its own words, 0 to 1."""
        prompts = [p.prompt_ids for p in pairs(96, seed=77)]
        spoken = draw(self.backbone, prompts, 77)
        batch = collate(
            [Row(str(i), p, (ids,)) for i, (p, ids) in enumerate(zip(prompts, spoken, strict=True))]
        )
        outputs = self.backbone.upper(self.backbone.lower(batch), batch, ADAPTER)[batch.predictors]
        return (outputs @ self.backbone._head.T).softmax(-1)[:, :LIKED].sum(1).mean().item()


@torch.no_grad()
def draw(backbone: Backbone, prompts: Sequence[tuple[int, ...]], seed: int) -> list[tuple[int, ...]]:
    """A sample of LENGTH tokens to each prompt from the policy, at temperature 1."""
    generator = torch.Generator().manual_seed(seed)
    spoken: list[tuple[int, ...]] = [()] * len(prompts)
    for _ in range(LENGTH):
        rows = [
            Row(str(i), (*prompt, *ids), ((0,),))
            for i, (prompt, ids) in enumerate(zip(prompts, spoken, strict=True))
        ]
        batch = collate(rows)
        outputs = backbone.upper(backbone.lower(batch), batch, ADAPTER)[batch.predictors]
        chances = (outputs @ backbone._head.T).softmax(-1)
        new = torch.multinomial(chances, 1, generator=generator).flatten().tolist()
        spoken = [(*ids, token) for ids, token in zip(spoken, new, strict=True)]
    return spoken


def liked(ids: tuple[int, ...]) -> int:
    """How many of the tokens people like."""
    return sum(id < LIKED for id in ids)


def judged(
    id: str, prompt: tuple[int, ...], first: tuple[int, ...], second: tuple[int, ...], version: int
) -> Preference:
    """Who says more of what people like is preferred; as much: a tie."""
    chosen, rejected = sorted((first, second), key=liked, reverse=True)
    told = preference(id, prompt, chosen, rejected, user=id)
    spoke = {"chosen_version": f"policy-v{version}", "rejected_version": f"policy-v{version}"}
    return replace(told, tie=liked(first) == liked(second), **spoke)


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tiny_backbone(2, adapters=(ADAPTER, "parent")), PreparedStore(), Registry(tmp_path))


def test_drift_is_what_the_weights_of_then_and_now_differ_by(chain: Chain) -> None:
    examples = chain.said(0, seed=3)
    chain.learn(examples, version=0)
    chain.publish()
    fresh = chain.said(1, seed=4)
    aged = discount(chain.trainer, "policy-v1", [*examples, *fresh], [1.0] * 96)
    chain.hold(1)
    batch = collate([Row("x", examples[0].prompt_ids, (examples[0].chosen_ids, examples[0].rejected_ids))])
    now, then = (chain.backbone.logprobs(batch, adapter).view(2, -1).mean(1) for adapter in (ADAPTER, None))
    assert aged.shares[0] == pytest.approx(factor((now - then).tolist()), abs=1e-4)
    assert aged.shares[48:] == [1.0] * 48 and aged.drift > 0
    assert 0.5 < aged.effective < 1
    assert discount(chain.trainer, "policy-v1", fresh, [1.0] * 48).shares == [1.0] * 48


def test_what_an_unreadable_version_said_counts_in_full(chain: Chain) -> None:
    lost = [replace(p, chosen_version="policy-v9", rejected_version="policy-v9") for p in pairs(4)]
    aged = discount(chain.trainer, "policy-v0", lost, [1.0] * 4)
    assert (aged.shares, aged.drift, aged.effective) == ([1.0] * 4, 0.0, 1.0)


@pytest.mark.slow
def test_learning_degrades_gracefully_as_feedback_ages(chain: Chain) -> None:
    for version in range(16):
        chain.learn(chain.said(version, seed=100 + version), version)
        chain.publish()
    chain.hold(16)
    before, gains, plain, sizes = chain.taste(), {}, {}, {}
    for age in (0, 1, 2, 4, 8, 16):
        feedback = [p for seed in (201, 202, 203) for p in chain.said(16 - age, seed)]
        sizes[age] = chain.learn(feedback, 16)
        gains[age] = chain.taste() - before
        if age >= 8:
            chain.train(feedback, [1.0] * len(feedback), 16)
            plain[age] = chain.taste() - before
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True) and sizes[0] == 1
    assert gains[0] > 0.02, gains
    assert all(gain > -0.01 for gain in gains.values()), gains
    assert all(gains[age] > plain[age] for age in plain), f"without the discount: {plain}, with it: {gains}"
    assert sum(gains[age] for age in (1, 2, 4)) / 3 > 0.05, gains
    assert gains[8] > 0.01 and sizes[16] > 0.7, (
        f"old feedback weighs less and is not thrown away: {gains}, {sizes}"
    )

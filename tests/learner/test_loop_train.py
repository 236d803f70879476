"""What the loop's training makes of a stale version, and of people who disagree: the first step's gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path

import pytest
import torch

from feedback.examples import Preference
from feedback.sqlite_log import SqliteLog
from heliotrope.config import load
from heliotrope.policies import BASE
from heliotrope.registry import Manifest
from learner.build import build
from learner.dpo import ADAPTER, DpoSettings, PolicyUpdate, train_policy
from learner.loop import train
from learner.parts import PARENT, Parts, hold
from learner.prepared import PreparedStore
from learner.rows import Row, collate
from tests.heliotrope.small_adapters import manifest
from tests.learner.tiny_llama import pairs
from tests.learner.votes_log import ScriptedSampler
from tests.learner.whole_model import whole_model

NOW = 1000.0


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """The learner on a tiny model, with an empty log and nothing published."""
    state, model = tmp_path_factory.mktemp("state"), whole_model(tmp_path_factory.mktemp("model"))
    overrides = [f'paths.state="{state}"', f'model.path="{model}"', "learner.nice=0", "lora.rank=4"]
    config = load(None, [*overrides, "lora.first_layer=1", "dpo.learning_rate=0.01", "dpo.batch_pairs=99"])
    SqliteLog(config.paths.log).close()
    made = build(config, lambda progress: None)
    made.sampler.close()
    made = replace(made, sampler=ScriptedSampler())  # pyright: ignore[reportArgumentType]
    yield made
    made.close()


def publish(parts: Parts, examples: Sequence[Preference]) -> str:
    """A version that learned these from base; its name."""
    hold(parts, ADAPTER, BASE)
    settings = replace(DpoSettings.of(parts.config), epochs=3)
    train_policy(parts.backbone, examples, [1.0] * len(examples), settings, PreparedStore())

    def stage(folder: Path) -> Manifest:
        parts.backbone.save_adapter(ADAPTER, folder)
        return manifest()

    return parts.registry.publish(stage).name


def update(parts: Parts, examples: list[Preference], **dpo: object) -> PolicyUpdate:
    """The loop's training from base, so configured."""
    changed = parts.config.model_copy(update={"dpo": parts.config.dpo.model_copy(update=dpo)})
    hold(parts, ADAPTER, BASE)
    return train(replace(parts, config=changed), BASE, list(examples), NOW)


def said_by(version: str, pair: Preference) -> Preference:
    return replace(pair, chosen_version=version, rejected_version=version, user=pair.id)


@torch.no_grad()
def kept(parts: Parts, version: str, pair: Preference) -> float:
    """Of a pair that a version said: the product of min(1, base's likelihood a token over the version's)."""
    hold(parts, PARENT, version)
    batch = collate([Row("alone", pair.prompt_ids, (pair.chosen_ids, pair.rejected_ids))])
    gone = parts.backbone.logprobs(batch, None) - parts.backbone.logprobs(batch, PARENT)
    return float(
        torch.stack([gone[batch.owners == owner].mean().exp().clamp(max=1) for owner in (0, 1)]).prod()
    )


def test_what_base_would_no_longer_say_pulls_by_what_is_left_of_it(parts: Parts) -> None:
    fresh, stale = pairs(2)
    version = publish(parts, [stale])
    left = kept(parts, version, stale)
    assert left < 0.8, "there is something to discount"
    hold(parts, ADAPTER, BASE)
    examples, settings = [fresh, stale], DpoSettings.of(parts.config)
    want = train_policy(parts.backbone, examples, [1.0, left], settings, PreparedStore())
    got = update(parts, [said_by(BASE, fresh), said_by(version, stale)])
    assert got.history[0].grad_norm == pytest.approx(want.history[0].grad_norm, rel=1e-4)


def disputed() -> list[Preference]:
    """One item shown to nine people, of whom eight agree."""
    (pair,) = pairs(1)
    turned = replace(pair, chosen_ids=pair.rejected_ids, rejected_ids=pair.chosen_ids)
    votes = [turned, *[pair] * 8]
    return [
        replace(vote, id=f"v{n}", event_ids=(f"v{n}",), user=f"u{n}", item_id="item")
        for n, vote in enumerate(votes)
    ]


def test_robust_dpo_allows_for_as_many_flips_as_people_disagree(parts: Parts) -> None:
    """At base it pulls 1 / (1 - 2 e) times as hard; 1 - 2 e = sqrt(2 a - 1), a = 28 of 36 pairs of people."""
    plain, robust = (
        update(parts, disputed(), variant="robust", label_smoothing=flips) for flips in (0.0, "agreement")
    )
    ratio = robust.history[0].grad_norm / plain.history[0].grad_norm
    assert ratio == pytest.approx(1 / sqrt(2 * 28 / 36 - 1), rel=1e-4)

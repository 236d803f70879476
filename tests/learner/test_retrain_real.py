"""The default model, trained again from a manifest: the same weights, however its examples came in."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from feedback.sqlite_log import SqliteLog
from heliotrope.config import Config, load
from learner import verbs
from learner.build import build
from learner.loop import prepare_ahead, update
from learner.parts import known
from tests.learner.votes_log import Collected, ScriptedSampler, write_others, write_votes

pytestmark = pytest.mark.slow
PAIRS, THUMBS = 8, 4


def votes() -> Collected:
    """Answers of many lengths, so that in batches every row would be padded by its company."""
    made, rng = Collected(), random.Random(3)
    write_votes(made, PAIRS)
    write_others(made, range(PAIRS + 1, PAIRS + 1 + 3 * THUMBS, 3))
    for event in made.events:
        if event.HasField("response_served"):
            longer = [rng.randrange(300, 40_000) for _ in range(rng.randrange(4, 36))]
            event.response_served.response_token_ids.extend(longer)
            event.response_served.logprobs.extend([-1.0] * len(longer))
    return made


def test_the_default_model_is_made_again_bit_by_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(None, [f'paths.state="{tmp_path}"', "learner.nice=0"])
    assert config.model == Config().model, "the default one"
    log, made = SqliteLog(config.paths.log), votes().events
    parts = build(config, lambda progress: None)
    parts.sampler.close()
    parts = replace(parts, sampler=ScriptedSampler())  # pyright: ignore[reportArgumentType]
    for some in (made[: len(made) // 3], made[len(made) // 3 :]):  # two crowds, prepared as they came
        log.append(some)
        parts.inbox.read()
        prepare_ahead(parts, known(parts))
    taught = known(parts)
    assert {type(e).__name__ for e in taught} == {"Preference", "Thumb"}
    version = update(parts, taught)
    parts.close()
    log.close()
    assert verbs.retrain(config, version.name) == 0
    assert capsys.readouterr().out.endswith(f"{version.name}: reproduced, {version.digest}\n")

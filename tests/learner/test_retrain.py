"""A version trained again from its manifest and the log is the same one, bit by bit; or it is said why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from feedback.sqlite_log import SqliteLog
from feedback.teachings import Teaching
from heliotrope.config import Config, load
from heliotrope.registry import PolicyVersion
from heliotrope.v1 import events_pb2, feedback_pb2
from learner import verbs
from learner.build import build
from learner.erasure import retrain_without
from learner.loop import prepare_ahead, update
from learner.parts import Parts
from tests.learner.votes_log import Collected, ScriptedSampler, make_live, unique, write_votes
from tests.learner.whole_model import whole_model

COUNT = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def config(model: Path, tmp_path: Path) -> Config:
    overrides = [f'paths.state="{tmp_path}"', f'model.path="{model}"', "learner.nice=0", "learner.threads=1"]
    return load(None, [*overrides, "lora.rank=4", "lora.first_layer=1", "dpo.learning_rate=0.01"])


@pytest.fixture
def log(config: Config) -> Iterator[SqliteLog]:
    made = SqliteLog(config.paths.log)
    yield made
    made.close()


def built(config: Config) -> Parts:
    parts = build(config, lambda progress: None)
    parts.sampler.close()
    return replace(parts, sampler=ScriptedSampler())  # pyright: ignore[reportArgumentType]


def learned(config: Config, log: SqliteLog, first: int = 0) -> PolicyVersion:
    """One version of `COUNT` more votes, which came in two parts and were prepared as they came."""
    parts = built(config)
    for start in (first, first + COUNT // 3):
        write_votes(log, COUNT // 3 if start == first else COUNT - COUNT // 3, start)
        parts.inbox.read()
        prepare_ahead(parts, parts.inbox.teachings(["Preference"]))
    version = update(parts, parts.inbox.teachings(["Preference"]))
    parts.close()
    return version


def erase(log: SqliteLog, user: str) -> None:
    erasure = events_pb2.Event(event_id=unique("erase", user), producer_id="q", sequence=1, tenant="default")
    erasure.time.FromSeconds(1_800_000_000)
    erasure.erasure_requested.user = user
    log.append([erasure])


def test_a_version_and_its_child_are_made_again_though_more_has_come_since(
    config: Config, log: SqliteLog, capsys: pytest.CaptureFixture[str]
) -> None:
    first = learned(config, log)
    make_live(log, first.name, first.digest, epoch=1)
    second = learned(config, log, first=COUNT)
    write_votes(log, 5, first=2 * COUNT)
    assert second.manifest.parent == "policy-v1" and second.manifest.made_with["threads"] == "1"
    changed = config.model_copy(update={"learner": config.learner.model_copy(update={"seed": 99})})
    assert verbs.retrain(changed, "policy-v2") == 0 and verbs.retrain(config, "policy-v1") == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f"policy-v2: reproduced, {second.digest}", f"policy-v1: reproduced, {first.digest}"]


def test_what_was_erased_is_said_and_counted(
    config: Config, log: SqliteLog, capsys: pytest.CaptureFixture[str]
) -> None:
    version = learned(config, log)
    gone = [e for e in range(COUNT) if unique("event", e, "vote") in version.manifest.example_ids][:2]
    for n in gone:
        erase(log, f"{n:032x}")
    assert verbs.retrain(config, version.name) == 1
    assert capsys.readouterr().out == "policy-v1: not reproducible: 2 erased\n"


def judged_together(events: list[events_pb2.Event], people: int) -> None:
    """The first so many votes are on one shared item, and the first of them is the other way round."""
    sides = [event.response_served.response_token_ids[:] for event in events[:2]]
    for n in range(people):
        first, second, vote = events[3 * n : 3 * n + 3]
        low, high = (first, second) if n % 2 else (second, first)
        for served, ids in ((low, min(sides)), (high, max(sides))):
            served.response_served.response_token_ids[:] = ids
            served.response_served.prompt_token_ids[:] = events[0].response_served.prompt_token_ids
        vote.feedback_given.item_id = "disputed"  # held out
    choice = events[2].feedback_given.feedback.comparison
    choice.choice = feedback_pb2.CHOICE_B if choice.choice == feedback_pb2.CHOICE_A else feedback_pb2.CHOICE_A


def of_disputed_votes(config: Config, log: SqliteLog) -> tuple[PolicyVersion, list[Teaching]]:
    """A version that allows for as many flips as nine people disagree who are held out, and what was known."""
    rules = ["learner.held_out=0.4", 'dpo.variant="robust"', 'dpo.label_smoothing="agreement"']
    told = load(None, [*rules, "learner.nice=0", "learner.threads=1", "dpo.learning_rate=0.01"])
    parts = built(config.model_copy(update={"learner": told.learner, "dpo": told.dpo}))
    votes = Collected()
    write_votes(votes, COUNT)
    judged_together(votes.events, 9)
    log.append(votes.events)
    parts.inbox.read()
    preferences = parts.inbox.teachings(["Preference"])
    version = update(parts, preferences)
    parts.close()
    return version, preferences


@pytest.mark.parametrize(
    ("shared", "said"),
    [
        (True, "policy-v1: not reproducible: 1 erased, which it was weighed beside\n"),
        (False, "policy-v1: reproduced, {digest}\n"),
    ],
)
def test_an_erasure_of_what_was_held_out_counts_where_training_hangs_on_it(
    shared: bool, said: str, config: Config, log: SqliteLog, capsys: pytest.CaptureFixture[str]
) -> None:
    version, preferences = of_disputed_votes(config, log)
    unseen = next(p for p in preferences[::-1] if p.held_out and bool(p.item_id) == shared)
    erase(log, unseen.user)
    assert verbs.retrain(config, version.name) == int(shared)
    assert capsys.readouterr().out == said.format(digest=version.digest)


def test_a_successor_without_somebody_is_made_again_without_them_and_names_nobody(
    config: Config, log: SqliteLog, capsys: pytest.CaptureFixture[str]
) -> None:
    learned(config, log)
    parts, gone = built(config), f"{5:032x}"
    second = retrain_without(parts, gone, "default")
    parts.close()
    assert len(second.manifest.without["digest"]) == 64 and gone not in second.manifest.model_dump_json()
    assert unique("event", 5, "vote") not in second.manifest.example_ids
    assert verbs.retrain(config, second.name) == 0
    assert capsys.readouterr().out == f"{second.name}: reproduced, {second.digest}\n"


def test_a_replay_agrees_and_is_refused_while_a_learner_runs(
    config: Config, log: SqliteLog, capsys: pytest.CaptureFixture[str]
) -> None:
    write_votes(log, 6)
    assert verbs.replay(config) == 0
    assert capsys.readouterr().out.startswith("training set: 6 examples, ")
    before = config.paths.training_set.read_bytes()
    assert before and verbs.replay(config) == 0

"""The loop on a real log, registry and files, with a tiny model: what is published, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from threading import Event

import pytest

from feedback.sqlite_log import SqliteLog
from feedback.teachings import Teaching
from heliotrope.config import Config, load
from heliotrope.errors import Unavailable
from heliotrope.failpoints import VARIABLE
from heliotrope.registry import verify
from heliotrope.v1 import events_pb2
from learner import rewards
from learner.build import build
from learner.dpo import Progress
from learner.erasure import retrain_without
from learner.loop import plan_of, prepare_ahead, run, turn, update
from learner.parts import Parts, known
from learner.recovery import recover
from learner.reward_steps import Prediction
from tests.learner.votes_log import ScriptedSampler, make_live, write_others, write_votes
from tests.learner.whole_model import whole_model

COUNT = 40
Build = Callable[[], Parts]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def overrides(model: Path, tmp_path: Path) -> list[str]:
    return [
        f'paths.state="{tmp_path}"',
        f'model.path="{model}"',
        "learner.nice=0",
        "lora.rank=4",
        "lora.first_layer=1",
        f"learner.min_new={COUNT}",
        "dpo.learning_rate=0.01",
        "dpo.epochs=3",
    ]


@pytest.fixture
def config(overrides: list[str]) -> Config:
    return load(None, overrides)


@pytest.fixture
def log(config: Config) -> Iterator[SqliteLog]:
    made = SqliteLog(config.paths.log)
    yield made
    made.close()


@pytest.fixture
def build_parts(config: Config) -> Iterator[Callable[[], Parts]]:
    """Builds the learner, as often as a test restarts it, with a scripted sampler in place of serving."""
    with ExitStack() as stack:

        def make() -> Parts:
            parts = build(config, lambda progress: None)
            parts.sampler.close()
            parts = replace(parts, sampler=ScriptedSampler())  # pyright: ignore[reportArgumentType]
            stack.callback(parts.close)
            return parts

        yield make


def read_all_kinds(parts: Parts):
    parts.inbox.read()
    return known(parts)


def read(parts: Parts):
    parts.inbox.read()
    return parts.inbox.teachings(["Preference"])


def take_back(log: SqliteLog, examples: Sequence[Teaching]) -> None:
    for n, example in enumerate(examples):
        back = events_pb2.Event(
            event_id=f"back-{n}", tenant="default", user=example.user, producer_id="q", sequence=n + 1
        )
        back.feedback_retracted.feedback_event_id = example.event_ids[0]
        log.append([back])


def predictions(parts: Parts) -> dict[str, float]:
    return {row["id"]: row["margin"] for row in parts.store._database.table("predictions").rows}


def test_an_update_publishes_a_whole_traced_judged_version(build_parts: Build, log: SqliteLog) -> None:
    write_votes(log, COUNT)
    parts = build_parts()
    preferences = read(parts)
    version = update(parts, preferences)
    manifest = verify(version.path)
    trained = {p.id for p in preferences if not p.held_out}
    assert (manifest.version, manifest.parent, manifest.algorithm) == ("policy-v1", "policy-v0", "dpo")
    assert set(manifest.example_ids) == trained and len(preferences) == COUNT > len(trained)
    assert manifest.log_positions == log.end("exchanges") | log.end("feedback")
    assert set(manifest.verdict) == {
        "held_out_accuracy",
        "reward_win_rate",
        "kl",
        "held_out_kl",
        "length",
        "repetition",
        "entropy",
    }
    assert manifest.metrics["accuracy"] > 0.5 and manifest.config["dpo"]["epochs"] == 3
    assert len(parts.store.steps("policy-v1")) == manifest.metrics["steps"]
    assert manifest.verdict["entropy"].figures.items() >= {"nats": 0.5, "parent": 1.0}.items()
    assert manifest.metrics["entropy.nats"] == 0.5 and manifest.metrics["age"] > 0
    assert manifest.envelope["base_digest"] == manifest.base_digest == parts.chat.envelope.base_digest


def test_thumbs_are_trained_on_beside_preferences(build_parts: Build, log: SqliteLog) -> None:
    write_votes(log, COUNT)
    write_others(log, range(COUNT, COUNT + 12))
    parts = build_parts()
    examples = read_all_kinds(parts)
    kinds = [type(e).__name__ for e in examples]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "Preference": COUNT + 4,  # each of four corrections is better than what it corrects
        "Thumb": 4,
        "Demonstration": 4,  # and grades of one answer alone compare nothing
    }
    version = update(parts, examples)
    trained = {e.id for e in examples if not e.held_out}
    assert set(version.manifest.example_ids) == trained
    assert version.manifest.metrics["preferences"] == COUNT + 4


def test_a_version_says_what_was_too_long_to_be_learned_from_or_judged_by(
    build_parts: Build, log: SqliteLog
) -> None:
    write_votes(log, COUNT)
    parts = build_parts()
    preferences = read(parts)
    longest = max(len(p.prompt_ids) + len(p.chosen_ids) + len(p.rejected_ids) for p in preferences)
    taught, held_out = ([p for p in preferences if p.held_out is held] for held in (False, True))
    tie = replace(taught[1], tie=True)
    changed = {p.id: replace(p, chosen_ids=p.chosen_ids * 20) for p in (taught[0], tie, held_out[0])}
    limit = parts.config.dpo.model_copy(update={"max_tokens": longest})
    parts = replace(parts, config=parts.config.model_copy(update={"dpo": limit}))
    version = update(parts, [changed.get(p.id, p) for p in preferences])
    refused = version.manifest.refused
    assert refused.keys() == changed.keys(), "a tie only teaches rewards, and what is held out only judges"
    assert all("raise the limit" in why for why in refused.values())
    assert version.manifest.metrics["refused"] == 3
    assert not changed.keys() & set(version.manifest.example_ids)


def test_what_can_never_be_prepared_is_tried_once(build_parts: Build, log: SqliteLog) -> None:
    write_votes(log, 9)
    parts = build_parts()
    preferences = read(parts)
    preferences[0] = replace(preferences[0], chosen_ids=preferences[0].chosen_ids * 400)
    looks: list[int] = []
    for known_then in (preferences[:8], preferences[:8], preferences):
        prepare_ahead(parts, known_then)
        looks.append(parts.sampler.looks)  # pyright: ignore[reportAttributeAccessIssue]
    assert looks == [1, 1, 2], "and a look at which nothing is new asks nobody"
    assert parts.prepared._items.keys() >= {p.id for p in preferences[1:]}
    parts.prepared.retain([])
    assert preferences[0].id not in parts.prepared


def test_a_kind_that_weighs_nothing_is_not_waited_for(
    build_parts: Build, log: SqliteLog, config: Config
) -> None:
    write_others(log, range(12))
    parts = build_parts()
    kinds = [type(e).__name__ for e in read_all_kinds(parts)]
    assert [kinds.count(kind) for kind in ("Preference", "Thumb", "Demonstration")] == [4, 4, 4]
    weights = config.mixture.model_copy(update={"thumbs": 0.0, "demonstrations": 0.0})
    left = known(replace(parts, config=config.model_copy(update={"mixture": weights})))
    assert [type(e).__name__ for e in left] == ["Preference"] * 4


def test_the_candidate_is_judged_through_its_shadow_and_the_slot_freed(
    build_parts: Build, log: SqliteLog
) -> None:
    write_votes(log, COUNT)
    parts = build_parts()
    version = update(parts, read(parts))
    assert parts.sampler.drawn == [f"shadow:{version.digest}", "policy-v0"]  # pyright: ignore
    assert parts.sampler.released == [version.digest]  # pyright: ignore


def test_training_looks_for_people_before_every_step(build_parts: Build, log: SqliteLog) -> None:
    write_votes(log, COUNT)
    parts = build_parts()
    steps = update(parts, read(parts)).manifest.metrics["steps"]
    assert parts.sampler.looks == 1 + steps  # pyright: ignore[reportAttributeAccessIssue]


def test_the_behaviour_record_tells_own_from_base(build_parts: Build, log: SqliteLog) -> None:
    write_votes(log, COUNT)
    parts = build_parts()
    record = json.loads((update(parts, read(parts)).path / "behaviour.json").read_text())
    items = record["items"]
    assert (
        record["dtype"] == "float32" and len(items) >= 16 and sum(len(item["own"]) for item in items) >= 256
    )
    assert all(item["parent"] == item["base"] for item in items)
    assert any(abs(o - b) > 0.02 for item in items for o, b in zip(item["own"], item["base"], strict=True))


def test_the_next_version_starts_from_what_is_live(build_parts: Build, log: SqliteLog) -> None:
    write_votes(log, COUNT)
    parts = build_parts()
    first = update(parts, read(parts))
    make_live(log, first.name, first.digest, epoch=1)
    write_votes(log, COUNT, first=COUNT)
    second = update(parts, read(parts))
    assert second.manifest.parent == "policy-v1"
    old, learned_now = set(first.manifest.example_ids), set(second.manifest.example_ids)
    news = {p.id for p in read(parts) if not p.held_out} - old
    assert news < learned_now and len(old & learned_now) == round(0.25 * len(news))
    items = json.loads((second.path / "behaviour.json").read_text())["items"]
    firsts = json.loads((first.path / "behaviour.json").read_text())["items"]
    assert [i["parent"] for i in items] == [pytest.approx(i["own"], abs=1e-5) for i in firsts]


def test_the_same_log_gives_the_same_version(build_parts: Build, log: SqliteLog, tmp_path: Path) -> None:
    write_votes(log, COUNT)
    digests = set()
    for place in ("one", "two"):
        parts = build_parts()
        parts = replace(parts, registry=type(parts.registry)(tmp_path / place))
        digests.add(update(parts, read(parts)).digest)
    assert len(digests) == 1


def test_after_a_version_only_what_is_known_stays_prepared(build_parts: Build, log: SqliteLog) -> None:
    write_votes(log, COUNT)
    write_others(log, range(COUNT, COUNT + 12))
    parts = build_parts()
    first = read_all_kinds(parts)
    prepare_ahead(parts, first)
    taken_back = first[0]
    take_back(log, [taken_back])
    second = read_all_kinds(parts)
    assert len(second) == len(first) - 1 and taken_back.id in parts.prepared
    update(parts, second)
    prepared = set(parts.prepared._items)
    assert taken_back.id not in prepared and prepared <= {e.id for e in second}, (
        "nothing judged, nothing taken back"
    )


def test_without_serving_nothing_is_published_and_nothing_lost(build_parts: Build, log: SqliteLog) -> None:
    write_votes(log, COUNT)
    parts = build_parts()
    parts.sampler.down = True  # pyright: ignore[reportAttributeAccessIssue]
    preferences = read(parts)
    with pytest.raises(Unavailable, match="serving is away"):
        update(parts, preferences)
    assert parts.registry.versions() == [] and len(parts.inbox.fresh(preferences)) == COUNT


def test_after_a_restart_only_what_came_later_is_news(build_parts: Build, log: SqliteLog) -> None:
    write_votes(log, COUNT)
    parts = build_parts()
    update(parts, read(parts))
    write_votes(log, 3, first=COUNT)
    again = build_parts()
    recover(again)
    assert len(again.inbox.fresh(read(again))) == 3


def test_a_reward_model_that_learns_again_is_judged_by_its_own_predictions(
    build_parts: Build, log: SqliteLog
) -> None:
    write_votes(log, COUNT)
    parts = build_parts()
    update(parts, read(parts))
    asked = parts.store.right()[1]
    parts.store.record([Prediction(f"another-{n}", 1.0, 0.3, 0) for n in range(9)])
    assert parts.store.right()[1] == asked + 9
    recover(kept := build_parts())
    assert kept.store.right()[1] == asked + 9
    for state in rewards.folder(parts.registry).iterdir():
        state.unlink()
    recover(again := build_parts())
    assert again.store.right()[1] == asked > 0


def test_a_model_that_learns_again_keeps_no_prediction_of_what_was_taken_back(
    build_parts: Build, log: SqliteLog
) -> None:
    write_votes(log, COUNT)
    parts = build_parts()
    update(parts, read(parts))
    before = predictions(parts)
    take_back(log, [p for p in read(parts) if not p.held_out][:8])  # of at most 40: more than a tenth
    standing = read(parts)
    update(parts, standing)
    after = predictions(parts)
    assert after.keys() == {p.id for p in standing if not p.held_out} and len(after) == len(before) - 8
    assert list(after.values())[:8] == [0.0] * 8, "of a model that knew nothing"


def test_killed_before_it_is_recorded_the_model_learns_again_and_says_the_same(
    build_parts: Build, log: SqliteLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_votes(log, COUNT)
    undisturbed = build_parts()
    update(undisturbed, read(undisturbed))
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(undisturbed.registry.root, elsewhere)
    recover(parts := build_parts())
    before = predictions(parts)
    take_back(log, [p for p in read(parts) if not p.held_out][:8])  # of at most 40: more than a tenth
    standing = read(parts)

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(parts.store, "record", kill)
        update(parts, standing)
    assert predictions(parts) == before, "still of the model that is kept"
    recover(again := build_parts())
    resumed = update(again, read(again)).manifest.reward_model
    said = predictions(again)
    undisturbed = replace(undisturbed, registry=type(undisturbed.registry)(elsewhere))
    assert update(undisturbed, standing).manifest.reward_model == resumed
    assert predictions(undisturbed) == said


def test_a_successor_without_a_person_is_judged_by_its_own_predictions(
    build_parts: Build, log: SqliteLog
) -> None:
    write_votes(log, COUNT)
    parts = build_parts()
    update(parts, read(parts))
    asked = predictions(parts).keys()
    left_out = next(p for p in read(parts) if p.id in asked)
    again = build_parts()
    retrain_without(again, left_out.user, "default")
    assert predictions(again).keys() == asked - {left_out.id}


def test_killed_before_ready_the_same_feedback_is_news_again(build_parts: Build, log: SqliteLog) -> None:
    write_votes(log, COUNT)
    parts = build_parts()
    version = update(parts, read(parts))
    (version.path / "READY").unlink()
    again = build_parts()
    recover(again)
    preferences = read(again)
    assert len(again.inbox.fresh(preferences)) == COUNT
    assert update(again, preferences).name == "policy-v2"


SECOND_STEP, SECOND_REWARD_STEP, DRAWING = "second step", "second step of the reward model", "drawing"


def killed(overrides: list[str], place: str) -> None:
    """A learner as a process of its own."""
    times = Counter[str]()

    def reached(here: str, at: int) -> None:
        times[here] += 1
        if here == place and times[here] == at:
            os.kill(os.getpid(), signal.SIGKILL)

    class Sampler(ScriptedSampler):
        def draw(self, *asked):
            reached(DRAWING, 2)
            return super().draw(*asked)

    os.environ[VARIABLE] = place if "READY" in place else ""
    parts = build(load(None, overrides), lambda progress: reached(SECOND_STEP, 2))
    steps, take = parts.reward._steps, parts.reward._steps.take
    steps.take = lambda *given: (reached(SECOND_REWARD_STEP, 2), take(*given))[1]
    turn(replace(parts, sampler=Sampler()))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "place",
    [
        SECOND_STEP,
        *(
            pytest.param(place, marks=pytest.mark.slow)
            for place in (
                SECOND_REWARD_STEP,
                DRAWING,
                "between files and READY=kill",
                "between files and READY=kill@2",
            )
        ),
    ],
)
def test_an_update_killed_on_its_way_is_made_as_it_would_have_been(
    place: str, build_parts: Build, overrides: list[str], log: SqliteLog, tmp_path: Path
) -> None:
    write_votes(log, COUNT)
    child = get_context("spawn").Process(target=killed, args=(overrides, place))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    other = build_parts()
    plan = other.store.begun()
    assert plan and other.registry.versions() == []
    elsewhere = replace(other, registry=type(other.registry)(tmp_path / "elsewhere"))
    undisturbed = update(elsewhere, read(elsewhere), plan)
    other.store.begin(plan)  # as the kill had left it

    write_votes(log, COUNT, first=COUNT)
    again = build_parts()
    recover(again)
    made = turn(again)
    assert made and (made.digest, made.manifest.trained_at) == (undisturbed.digest, plan.now)
    assert made.manifest.example_ids == undisturbed.manifest.example_ids
    assert made.manifest.reward_model == undisturbed.manifest.reward_model
    again.store.begin(plan)  # killed between READY and the end
    later = turn(again)
    assert later and len(set(later.manifest.example_ids) - set(made.manifest.example_ids)) > COUNT / 2


class Killed(BaseException):
    """Nothing catches it, as with a kill."""


def test_what_is_taken_back_during_an_update_that_is_killed_does_not_change_it(
    build_parts: Build, log: SqliteLog, tmp_path: Path
) -> None:
    write_votes(log, COUNT)
    other = build_parts()
    preferences = read(other)
    plan = plan_of(other)
    elsewhere = replace(other, registry=type(other.registry)(tmp_path / "elsewhere"))
    undisturbed = update(elsewhere, preferences, plan)
    vote = next(p for p in preferences if p.id in undisturbed.manifest.example_ids)

    class Stopped(ScriptedSampler):
        def draw(self, *asked):
            raise Killed

    def take_back(at: Progress) -> None:
        if at.step == 1:
            back = events_pb2.Event(
                event_id="back", user=vote.user, tenant="default", producer_id="q", sequence=1
            )
            back.feedback_retracted.feedback_event_id = vote.event_ids[0]
            log.append([back])

    parts = replace(build_parts(), progress=take_back, sampler=Stopped())  # pyright: ignore[reportArgumentType]
    read(parts)
    with pytest.raises(Killed):
        update(parts, read(parts), parts.store.begin(plan))
    again = build_parts()
    recover(again)
    made = turn(again)
    assert made and made.digest == undisturbed.digest
    assert vote.id not in {p.id for p in read(again)}, "it counts from now on"


def test_an_update_that_fails_is_not_taken_up_again(build_parts: Build, log: SqliteLog) -> None:
    write_votes(log, COUNT)
    parts = build_parts()
    parts.sampler.down = True  # pyright: ignore[reportAttributeAccessIssue]

    class StopAfterOneTry(Event):
        def wait(self, timeout: float | None = None) -> bool:
            self.set()
            return True

    run(parts, StopAfterOneTry())
    assert parts.store.begun() is None and parts.registry.versions() == []


def test_an_update_waits_for_a_log_that_does_not_answer_yet(
    build_parts: Build, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a cut of power serving, which has the keys, may start later than the learner."""
    write_votes(log, COUNT)
    parts = build_parts()
    parts.inbox.read()
    plan = parts.store.begin(plan_of(parts))

    def read(*_: object, **__: object) -> int:
        raise Unavailable("scripted: serving is away")

    monkeypatch.setattr(parts.inbox, "read", read)
    with pytest.raises(Unavailable):
        turn(parts)
    assert parts.store.begun() == plan


def test_the_loop_waits_for_enough_news(build_parts: Build, log: SqliteLog) -> None:
    write_votes(log, COUNT - 1)
    parts = build_parts()

    class StopAfterOneLook(Event):
        def wait(self, timeout: float | None = None) -> bool:
            self.set()
            return True

    run(parts, StopAfterOneLook())
    assert parts.registry.versions() == []


def test_news_that_teaches_the_policy_nothing_is_no_reason_for_a_version(
    build_parts: Build, log: SqliteLog
) -> None:
    write_votes(log, COUNT, tied=True)
    assert turn(build_parts()) is None


def test_predictions_are_recorded_before_learning(build_parts: Build, log: SqliteLog) -> None:
    write_votes(log, COUNT)
    parts = build_parts()
    update(parts, read(parts))
    accuracy = parts.store.accuracy()
    assert accuracy is not None
    assert (
        0.5 < accuracy < 1
    )  # the first step's had no opinion and count half, the others are taste learned on the way

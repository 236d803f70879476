"""A correction and grades of one exchange through the loop's own parts: what they teach, and that it can be traced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from feedback.examples import Demonstration, Preference
from feedback.lineage import of_event
from feedback.replay import replay
from feedback.rules import training_set
from feedback.sqlite_log import SqliteLog
from feedback.teachings import Teaching, votes_of
from heliotrope.config import Config, load
from heliotrope.registry import PolicyVersion
from heliotrope.v1 import events_pb2
from learner import verbs
from learner.build import build
from learner.loop import update
from learner.parts import Parts, known
from tests.learner.votes_log import ScriptedSampler, unique, write_correction, write_votes
from tests.learner.whole_model import whole_model

COUNT, NUMBER = 16, 6
VOTE, CORRECTION, BETTER, WORSE = (
    unique("event", NUMBER, name) for name in ("vote", "correction", "grade", "worse")
)


@dataclass
class World:
    """A log with sixteen votes and one person who also corrected and graded."""

    config: Config
    log: SqliteLog
    parts: Parts

    def taught(self) -> list[Teaching]:
        """What the person of the correction taught."""
        self.parts.inbox.read()
        return [e for e in known(self.parts) if e.user == f"{NUMBER:032x}"]

    def version(self) -> PolicyVersion:
        self.parts.inbox.read()
        return update(self.parts, known(self.parts))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def world(model: Path, tmp_path: Path) -> Iterator[World]:
    settings = [f'paths.state="{tmp_path}"', f'model.path="{model}"', "learner.nice=0", "learner.threads=1"]
    config = load(None, [*settings, "lora.rank=4", "lora.first_layer=1", "learner.held_out=0.05"])
    log = SqliteLog(config.paths.log)
    write_votes(log, COUNT)
    write_correction(log, NUMBER)
    parts = build(config, lambda progress: None)
    parts.sampler.close()
    yield World(config, log, replace(parts, sampler=ScriptedSampler()))  # pyright: ignore[reportArgumentType]
    parts.close()
    log.close()


def test_they_make_three_pairs_a_demonstration_and_a_graded_pair(world: World) -> None:
    taught = {e.id: e for e in world.taught()}
    assert set(taught) == {
        VOTE, CORRECTION, f"{CORRECTION}+{VOTE}", f"{CORRECTION}/text", f"{BETTER}+{WORSE}"
    }  # fmt: skip
    words = tuple(world.parts.chat.answer_ids("Say it like this."))
    shown = taught[f"{CORRECTION}/text"]
    assert isinstance(shown, Demonstration) and shown.response_ids == words
    pairs = {id: (e.chosen_ids, e.rejected_ids) for id, e in taught.items() if isinstance(e, Preference)}
    chosen, rejected = pairs[VOTE]
    assert pairs == {
        VOTE: (chosen, rejected),
        CORRECTION: (words, chosen),
        f"{CORRECTION}+{VOTE}": (words, rejected),
        f"{BETTER}+{WORSE}": (chosen, rejected),
    }


def test_a_vote_taken_back_takes_its_pair_of_the_correction_along(world: World) -> None:
    event = events_pb2.Event(event_id=unique("back"), tenant="default", user=f"{NUMBER:032x}", schema=1)
    event.producer_id, event.sequence = unique("producer"), 10_000
    event.time.FromSeconds(1_700_001_000)
    event.feedback_retracted.feedback_event_id = VOTE
    world.log.append([event])
    assert {e.id for e in world.taught()} == {CORRECTION, f"{CORRECTION}/text", f"{BETTER}+{WORSE}"}


def test_a_version_names_them_and_a_replay_agrees(world: World, tmp_path: Path) -> None:
    version = world.version()
    assert {e.id for e in world.taught()} < set(version.manifest.example_ids)
    fresh = training_set(world.config, world.parts.chat, tmp_path / "fresh.db")
    (check,) = replay(world.log, fresh, [version])
    assert check.agrees and check.examples == len(version.manifest.example_ids)
    traced = of_event(WORSE, world.parts.registry, fresh)  # the worse grade is only the second part of an id
    assert traced["trained_on_it"] == [version.name]
    fresh.close()


def test_a_version_that_learned_from_them_is_made_again(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    version = world.version()
    write_votes(world.log, 4, first=COUNT)
    assert verbs.retrain(world.config, version.name) == 0
    assert capsys.readouterr().out == f"policy-v1: reproduced, {version.digest}\n"


def test_an_id_names_every_judgement_in_it() -> None:
    assert votes_of("a/0-1") == ["a"] and votes_of("a/text") == ["a"] and votes_of("a+b/B") == ["a", "b"]

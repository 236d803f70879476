"""Which kept reward models are taken up, learned again or deleted, by what the manifests say that they learned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from heliotrope.registry import Registry
from learner import rewards
from learner.prepared import PreparedStore
from learner.reward import RewardModel
from learner.reward_net import REWARD
from learner.reward_steps import RewardSettings
from tests.heliotrope.small_adapters import stage
from tests.learner.tiny_llama import pairs, tiny_backbone

EXAMPLES = pairs(24)


def model() -> RewardModel:
    backbone = tiny_backbone(2, adapters=("policy", REWARD))
    return RewardModel(backbone, PreparedStore(), RewardSettings(learning_rate=1e-2, person_share=1.0))


def publish(registry: Registry, reward: RewardModel) -> str:
    """A version that this state judged; the state's digest."""
    record, write = reward.record(), stage()
    digest = reward.freeze(rewards.folder(registry))
    registry.publish(lambda folder: write(folder).model_copy(update={"reward_model": record}))
    reward.published(digest)
    return digest


def erased(*gone: str) -> rewards.Erased:
    """Says that these events are."""

    def among(ids: Iterator[str]) -> list[str]:
        return [id for id in ids if id in gone]

    return among


def given_at(time: float = EXAMPLES[0].time) -> rewards.GivenAt:
    """When what stands no longer was given."""
    return lambda event_id: time


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


@pytest.fixture
def taught(registry: Registry) -> tuple[RewardModel, list[str]]:
    """A model that learned eight by eight, each state kept with a version; and their digests."""
    reward, digests = model(), []
    for end in (8, 16, 24):
        reward.learn(EXAMPLES[:end])
        digests.append(publish(registry, reward))
    return reward, digests


def kept(registry: Registry) -> set[str]:
    return {path.stem for path in rewards.folder(registry).iterdir()}


def test_a_state_is_taken_up_with_all_that_ever_shaped_it(registry: Registry, taught) -> None:
    resumed = model()
    in_window = EXAMPLES[8:]
    assert rewards.take_up(resumed, registry, taught[1][2], in_window, given_at(EXAMPLES[0].time - 1))
    assert resumed.learned == {p.id for p in EXAMPLES}
    same = {"digest": taught[1][2], "parent": taught[1][2], "learned": "", "withdrawn": "0"}
    assert resumed.record() == same


def test_a_version_in_which_nothing_was_learned_has_the_same_state(registry: Registry, taught) -> None:
    assert publish(registry, taught[0]) == taught[1][2]
    resumed = model()
    assert rewards.take_up(resumed, registry, taught[1][2], EXAMPLES, given_at())
    assert resumed.learned == {p.id for p in EXAMPLES}


def test_a_chain_with_a_hole_is_not_taken_up(registry: Registry, taught) -> None:
    (registry.policies / "policy-v2" / "READY").unlink()
    assert not rewards.take_up(model(), registry, taught[1][2], EXAMPLES, given_at())
    assert not rewards.take_up(model(), registry, "0" * 64, EXAMPLES, given_at())


def test_what_goes_on_from_an_erased_vote_is_deleted(registry: Registry, taught) -> None:
    gone = rewards.purge(registry, erased(EXAMPLES[10].id))
    assert gone == sorted(taught[1][1:])
    assert kept(registry) == {taught[1][0]}


def test_a_state_of_no_version_is_deleted_too(registry: Registry, taught) -> None:
    reward, digests = taught
    reward.learn(pairs(8, seed=9))
    orphan = reward.freeze(rewards.folder(registry))  # killed before its version was published
    assert rewards.purge(registry, erased()) == [orphan]
    assert kept(registry) == set(digests)


def test_without_an_erasure_nothing_is_learned_again(taught) -> None:
    reward, digests = taught
    assert rewards.keep(reward, EXAMPLES[2:], erased()) is None  # two taken back of 24: less than a tenth
    assert reward.net.digest() == digests[2]


def test_what_was_taken_back_before_a_restart_counts_after_it(registry: Registry, taught) -> None:
    reward, never = taught[0], model()
    rewards.keep(reward, EXAMPLES[2:], erased())
    digest = publish(registry, reward)
    resumed = model()
    assert rewards.take_up(resumed, registry, digest, EXAMPLES[2:], given_at())
    rewards.keep(resumed, EXAMPLES[3:], erased())  # the third of 24: now more than a tenth
    never.learn(EXAMPLES[3:])
    assert resumed.net.digest() == never.net.digest()


def test_one_vote_erased_is_one_never_learned(taught) -> None:
    reward, never = taught[0], model()
    others = [p for p in EXAMPLES if p.id != EXAMPLES[10].id]
    assert rewards.keep(reward, others, erased(EXAMPLES[10].id)) == never.learn(others)
    assert reward.net.digest() == never.net.digest()

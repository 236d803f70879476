"""A person is learned from, then erased: nothing of what they said is left in any byte, and a clean successor can be made.

Real files, sockets and both programs' parts; the engine is scripted and the model tiny.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from feedback.join import Joiner
from feedback.log import read_all
from heliotrope.identity import pseudonym
from heliotrope.v1 import admin_pb2, events_pb2, feedback_pb2, privacy_pb2
from learner import rewards
from learner.erasure import heed, retrain_without
from tests.learner.test_loop import model  # noqa: F401  a fixture
from tests.loop.canary import (
    COMMENTED,
    CORRECTED,
    DRAWN,
    OTHERS,
    SAID,
    judge,
    learn,
    learner,
    opened,
    talk,
    wanted,
    world_of,
)  # fmt: skip
from tests.loop.traces_of import in_files, in_rows, needles
from tests.serving.running import ALICE, World


async def test_an_erased_person_is_in_no_byte_and_in_no_successor(model: Path, tmp_path: Path) -> None:  # noqa: F811
    state, loop = tmp_path / "state", asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as learning:  # the learner lives in one thread
        there = partial(loop.run_in_executor, learning)
        async with world_of(model, state) as world:
            await talk(world)
            parts = await there(learner, world)
            assert await there(learn, parts) == "policy-v1"
            alice = pseudonym(world.server.services.chat.tickets.key, "default", ALICE[0][1])
            canaries = wanted(world, alice)
            assert all(word in opened(world) for word in (SAID, CORRECTED, COMMENTED, DRAWN)), "it was there"
            await world.admin.ListQuarantine(
                admin_pb2.ListQuarantineRequest(limit=1)
            )  # serving's derived store is there
            held = {found.partition(" in ")[2].partition(".db")[0] for found in in_files(state, canaries)}
            derived = {str(path.relative_to(state).with_suffix("")) for path in
                       (world.config.paths.training_set, world.config.paths.read_models)}  # fmt: skip
            assert held == derived | {"keys/people"}, (
                "what is derived, the key, and nothing else: not the log"
            )
            asked = await world.votes.ForgetMe(feedback_pb2.ForgetMeRequest(request_id="f"), metadata=ALICE)
            await there(heed, parts)
            how = await world.privacy.GetErasure(privacy_pb2.GetErasureRequest(erasure_id=asked.erasure_id))
            assert (list(how.done), list(how.policy_versions)) == (["learner", "serving"], ["policy-v1"])
            (reward_model,) = how.reward_models
            frozen = rewards.folder(parts.registry) / f"{reward_model}.safetensors"
            assert not frozen.exists() and frozen.parent.is_dir(), (
                "what judged policy-v1 had learned from her"
            )
            assert "canary" not in opened(world)
            assert in_rows(state, canaries) == [] and in_files(state, canaries) == []
            said = set(world.server.replies.format.response_ids(SAID))
            assert not any(said <= set(item.row.prompt) for item in parts.prepared._items.values())

            votes = {e.event_id for e in world.events("feedback", "feedback_given") if e.user == alice}
            clean = await there(retrain_without, parts, alice, "default")
            assert (clean.manifest.parent, bool(votes.intersection(clean.manifest.example_ids))) == (
                "policy-v0",
                False,
            )
            after = await world.privacy.GetErasure(privacy_pb2.GetErasureRequest(erasure_id=asked.erasure_id))
            assert after == how, "the successor is clean in both"
            await there(parts.close)
    assert in_files(state, canaries) == [], "after everything was closed"


async def test_what_a_stop_interrupted_is_finished_at_the_next_start(model: Path, tmp_path: Path) -> None:  # noqa: F811
    async with world_of(model, tmp_path / "state") as world:
        await judge(world, SAID, ALICE)
        journal = world.server.replies.journal
        vote = world.events("feedback", "feedback_given")[0]
        event = events_pb2.Event(event_id="e1", tenant=vote.tenant, user=vote.user)
        event.erasure_requested.erasure_id, event.erasure_requested.user = "e1", vote.user
        await journal.commit(event)
        assert SAID in opened(world)
    async with world_of(model, tmp_path / "state") as world:
        how = await world.privacy.GetErasure(privacy_pb2.GetErasureRequest(erasure_id="e1"))
        assert list(how.done) == ["serving"] and SAID not in opened(world)


async def test_others_and_later_words_of_an_erased_person_stay(model: Path, tmp_path: Path) -> None:  # noqa: F811
    async with world_of(model, tmp_path / "state") as world:
        await judge(world, "before", ALICE)
        await judge(world, "other", OTHERS[1])
        await world.votes.ForgetMe(feedback_pb2.ForgetMeRequest(request_id="f"), metadata=ALICE)
        await world.votes.ForgetMe(feedback_pb2.ForgetMeRequest(request_id="f"), metadata=ALICE)
        await judge(world, "after", ALICE)
        left = opened(world)
        assert "before" not in left and "other" in left and "after" in left
        assert len(world.events("feedback", "erasure_requested")) == 1


async def test_who_withdraws_consent_is_dropped_and_may_come_back(model: Path, tmp_path: Path) -> None:  # noqa: F811
    def known(world: World) -> int:
        joiner = Joiner(("human",), 0.15)
        for topic in ("exchanges", "feedback"):
            for record in read_all(world.server.replies.journal.store, topic):
                joiner.add(record.event or events_pb2.Event())
        return len(joiner.preferences())

    async with world_of(model, tmp_path / "state") as world:
        await judge(world, "one", ALICE)
        counts = [known(world)]
        for request_id, may_learn in (("a", False), ("b", True)):
            request = feedback_pb2.SetConsentRequest(request_id=request_id, may_learn=may_learn)
            await world.votes.SetConsent(request, metadata=ALICE)
            await judge(world, f"while {may_learn}", ALICE)
            counts.append(known(world))
    assert counts == [1, 0, 2], "what was given while withdrawn carries no consent"


@pytest.mark.parametrize("how", ["varint", "int32", "int64", "JSON", "JSON, compact"])
def test_the_search_finds_token_ids_in_every_encoding(how: str, tmp_path: Path) -> None:
    ids = (70_001, 300, 49_000)
    canaries = needles(["word"], [ids], [b"k" * 32])
    (tmp_path / "file").write_bytes(b"..." + canaries[f"ids 0 {how}"] + b"...")
    assert any(how in found for found in in_files(tmp_path, canaries))

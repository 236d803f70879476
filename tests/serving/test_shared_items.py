"""Shared items: one pair for all who ask a pool prompt, the same words, fresh ids, no propensity, kept by the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliotrope.v1 import chat_pb2, common_pb2
from tests.serving.running import ALICE, BOB, World, request, rest, running
from tests.waiting import until_async

ON = chat_pb2.COMPARISON_WISH_ON
PROMPT = "How do I fold a fitted sheet?"
CAROL = (("x-heliotrope-user", "c" * 32),)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    path = tmp_path / "pool.txt"
    path.write_text(f"{PROMPT}\n\n  What is rain?  \n")
    return path


def world_of(tmp_path: Path, pool: Path):
    """Random sides would hide in the scripted engine's equal answers: it answers each request differently here."""
    return running(tmp_path / "state", f"comparisons.shared_pool={pool}")


def vary(world: World) -> None:
    """Make the two answers of a pair differ."""
    letters = world.engine.words
    world.engine.script = lambda ids, adapter, request_id: [
        letters[int(c, 16)] for c in request_id.replace("-", "")[:8]
    ]


async def test_later_askers_see_the_very_same_pair(tmp_path: Path, pool: Path) -> None:
    async with world_of(tmp_path, pool) as world:
        vary(world)
        first = await world.chat(PROMPT, comparison=ON)
        second = await world.chat(PROMPT, comparison=ON, who=BOB)
        third = await world.chat(PROMPT, comparison=ON, who=ALICE)  # the same person again, later
        assert len({t for t in first.texts.values()}) == 2
        for later in (second, third):
            assert sorted(later.texts.values()) == sorted(first.texts.values())
            assert set(later.ids).isdisjoint(first.ids)
            assert later.started.item_id == first.started.item_id != ""
            assert later.started.feedback_ticket and len(later.chunks) > 4  # streamed, not dumped
        assert len(world.engine.calls) == 2
        served = [e.response_served for e in world.events("exchanges", "response_served")]
        assert [s.propensity for s in served[:2]] == [common_pb2.PROPENSITY_PROCESSED] * 2
        assert [s.propensity for s in served[2:]] == [common_pb2.PROPENSITY_NONE] * 4
        by_text = {s.text: (list(s.response_token_ids), list(s.logprobs)) for s in served[:2]}
        assert all(by_text[s.text] == (list(s.response_token_ids), list(s.logprobs)) for s in served[2:])


async def test_sides_are_random_for_every_asker(tmp_path: Path, pool: Path) -> None:
    async with world_of(tmp_path, pool) as world:
        vary(world)
        first = await world.chat(PROMPT, comparison=ON)
        left = set()
        for i in range(24):  # all on one side by chance: 2 · 2⁻²⁴
            who = (("x-heliotrope-user", f"{i:032x}"),)
            later = await world.chat(PROMPT, comparison=ON, who=who)
            left.add(later.texts[later.ids[0]])
        assert left == set(first.texts.values())


async def test_only_the_first_message_of_a_new_conversation_in_a_comparison_counts(
    tmp_path: Path, pool: Path
) -> None:
    async with world_of(tmp_path, pool) as world:
        single = await world.chat(PROMPT)
        inside = await world.chat(PROMPT, comparison=ON, conversation_id=single.started.conversation_id)
        other = await world.chat("Something else?", comparison=ON)
        assert [c.started.item_id for c in (single, inside, other)] == ["", "", ""]
        assert len(world.engine.calls) == 5


async def test_another_sampling_gets_a_fresh_pair_that_is_no_item(tmp_path: Path, pool: Path) -> None:
    async with world_of(tmp_path, pool) as world:
        await world.chat(PROMPT, comparison=ON)
        other = await world.chat(PROMPT, comparison=ON, sampling=common_pb2.Sampling(temperature=0.3))
        assert other.started.item_id == "" and len(world.engine.calls) == 4


async def test_a_pair_that_was_not_finished_frees_its_prompt(tmp_path: Path, pool: Path) -> None:
    async with world_of(tmp_path, pool) as world:
        world.engine.hold(after=2)
        call = world.chats.Chat(request(PROMPT, comparison=ON), metadata=ALICE)
        abandoned = (await call.read()).started.item_id
        meanwhile = world.chats.Chat(request(PROMPT, comparison=ON), metadata=BOB)
        assert (
            abandoned and (await meanwhile.read()).started.item_id == ""
        )  # the pair is being drawn by someone else
        call.cancel()
        await until_async(lambda: len(world.server.replies.running) == 2)
        world.engine.release()
        assert (await rest(meanwhile))[-1].HasField("finished")
        founded = await world.chat(PROMPT, comparison=ON, who=CAROL)
        assert founded.started.item_id not in ("", abandoned)


async def test_pairs_outlive_a_restart(tmp_path: Path, pool: Path) -> None:
    async with world_of(tmp_path, pool) as world:
        vary(world)
        first = await world.chat(PROMPT, comparison=ON)
    async with world_of(tmp_path, pool) as world:
        later = await world.chat(PROMPT, comparison=ON, who=BOB)
        assert sorted(later.texts.values()) == sorted(first.texts.values())
        assert later.started.item_id == first.started.item_id and world.engine.calls == []

"""GetConversation: one's own conversation after a reload or a restart, and nobody else's."""

from __future__ import annotations

import uuid
from pathlib import Path

import grpc
import pytest

from heliotrope.v1 import chat_pb2, feedback_pb2
from serving.caller import Caller
from serving.conversations import Conversations, transcript
from tests.serving.running import ALICE, BOB, World, refusal, request, running

ON = chat_pb2.COMPARISON_WISH_ON


@pytest.fixture
async def world(tmp_path: Path):
    async with running(tmp_path / "state") as world:
        yield world


async def get(world: World, conversation_id: str, who=ALICE) -> list[tuple[str, str, str, bool]]:
    asked = chat_pb2.GetConversationRequest(conversation_id=conversation_id)
    got = await world.chats.GetConversation(asked, metadata=who)
    return [(t.response_id, t.message, t.text, t.continued) for t in got.turns]


async def test_the_way_to_the_newest_answer_comes_back_with_its_pairs(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as world:
        pair = await world.chat("one", comparison=ON)
        a, b = pair.ids
        choice = feedback_pb2.Comparison(choice=feedback_pb2.CHOICE_B)
        await world.give(pair.started.feedback_ticket, comparison=choice)
        conversation = pair.started.conversation_id
        await world.chat("not this way", conversation_id=conversation, parent_response_id=a)
        last = await world.chat("two", conversation_id=conversation, parent_response_id=b)
        wanted = [
            (a, "one", pair.texts[a], False),
            (b, "one", pair.texts[b], True),
            (last.ids[0], "two", last.texts[last.ids[0]], True),
        ]
        assert await get(world, conversation) == wanted
    async with running(tmp_path / "state") as world:
        assert await get(world, conversation) == wanted


async def test_an_answer_cut_off_by_the_reload_comes_as_far_as_it_got(world: World) -> None:
    world.engine.hold(after=3)
    call = world.chats.Chat(request("one"), metadata=ALICE)
    conversation = (await call.read()).started.conversation_id
    text = ""
    while len(text) < 3:
        text += (await call.read()).delta.text
    call.cancel()
    world.engine.release()
    ((_, message, told, _),) = await get(world, conversation)
    assert message == "one" and told.startswith(text)


@pytest.mark.parametrize(
    "who, code",
    [(BOB, grpc.StatusCode.PERMISSION_DENIED), ((), grpc.StatusCode.UNAUTHENTICATED)],
    ids=["another person", "no identity"],
)
async def test_a_conversation_is_its_owners_alone(world: World, who, code: grpc.StatusCode) -> None:
    answered = await world.chat()
    assert (await refusal(get(world, answered.started.conversation_id, who)))[0] == code


async def test_one_that_was_never_issued_is_not_found(world: World) -> None:
    assert (await refusal(get(world, str(uuid.UUID(int=7)))))[0] == grpc.StatusCode.NOT_FOUND


async def test_the_oldest_turns_give_way_when_a_transcript_is_long() -> None:
    """Each turn weighs 1 + 4 bytes: two fit into 12, three do not."""
    held, alice = Conversations(), Caller("default", "alice")
    for n in range(3):
        held.begin("c", alice, f"r{n - 1}" if n else "", "m", [f"r{n}"])
        held.finish("c", f"r{n}", "text")
    found = await transcript(held.find("c", alice), most_bytes=12)
    assert [turn.response_id for turn, _ in found] == ["r1", "r2"]

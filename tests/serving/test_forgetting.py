"""What a person says while they are being forgotten: nothing of before is said, or sealed, again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from feedback.log import MAX_BYTES, read_all
from heliotrope.errors import AlreadyExists
from heliotrope.v1 import events_pb2, feedback_pb2
from serving.caller import Caller
from serving.routes import Routes
from tests.serving.running import ALICE, BOB, World, fails, hold_writes, running
from tests.waiting import until_async

SAID = "zyxwcanary"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path / "state") as world:
        yield world


def readable(world: World) -> str:
    """All that serving can still read."""
    store = world.server.replies.journal.store
    return "".join(str(r.event) for topic in ("exchanges", "feedback") for r in read_all(store, topic))


async def forget(world: World) -> None:
    await world.votes.ForgetMe(feedback_pb2.ForgetMeRequest(request_id="f"), metadata=ALICE)


async def test_a_turn_planned_before_an_erasure_is_not_begun_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await world.chat(SAID)
    planned, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(routes: Routes, policy: str) -> None:
        planned.set()
        await go_on.wait()

    monkeypatch.setattr(Routes, "prepare", slowly)
    turn = asyncio.create_task(world.chat("and then?", conversation_id=first.started.conversation_id))
    await planned.wait()
    await forget(world)
    go_on.set()
    async with fails(grpc.StatusCode.NOT_FOUND, "no conversation", "start one"):
        await turn
    assert SAID not in readable(world), "the old words were sealed under a new key"


async def test_nothing_is_answered_to_a_person_while_their_key_is_destroyed(world: World) -> None:
    privacy, let = world.server.services.privacy.privacy, threading.Event()
    erase, began = privacy.erase, threading.Event()

    def slowly(erasure: events_pb2.Event) -> None:
        began.set()
        assert let.wait(30)
        erase(erasure)

    privacy.erase = slowly
    leaving = asyncio.create_task(forget(world))
    await until_async(began.is_set)
    async with fails(grpc.StatusCode.UNAVAILABLE, "being erased", "in a moment"):
        await world.chat("now")
    assert (await world.chat("me too", who=BOB)).texts, "others are answered"
    let.set()
    await leaving
    assert (await world.chat("later")).texts, "and so is the person, once it is done"


async def test_an_end_that_waited_for_room_is_not_written_after_the_erasure(world: World) -> None:
    await world.chat(SAID)
    journal = world.server.replies.journal
    (end,) = world.events("exchanges", "response_served")
    late = events_pb2.Event()
    late.CopyFrom(end)
    late.event_id = "late"
    journal.owed.append(late)
    await forget(world)
    assert SAID not in readable(world) and journal.find("late") is None


async def test_an_end_that_is_too_large_keeps_no_other_waiting(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.chat(SAID)
    journal = world.server.replies.journal
    (end,) = world.events("exchanges", "response_served")
    large = events_pb2.Event()
    large.CopyFrom(end)
    large.event_id, large.response_served.text = "large", "x" * MAX_BYTES
    await journal.close_late(large)
    assert not journal.owed and "the end of response large is not kept" in caplog.text
    small = events_pb2.Event()
    small.CopyFrom(end)
    small.event_id = "small"
    journal.owed.extend([large, small])
    await world.chat("writes what waits")
    assert not journal.owed and journal.find("small") is not None


async def test_a_caller_who_leaves_stops_neither_the_erasure_nor_the_end_of_an_answer(world: World) -> None:
    """Cancelled while the answer that it ends waits for the disk."""
    durable = hold_writes(world)
    chat = asyncio.create_task(world.chat(SAID))
    await until_async(lambda: world.engine.running == 1)
    call = world.votes.ForgetMe(feedback_pb2.ForgetMeRequest(request_id="f"), metadata=ALICE)
    await until_async(lambda: world.engine.running == 0)  # stopped for the erasure, not yet closed
    call.cancel()
    durable.set()
    await until_async(lambda: not world.server.replies.running)
    await chat
    privacy = world.server.services.privacy.privacy
    await until_async(lambda: any("serving" in erasure.done for erasure in privacy.erasures.values()))
    assert SAID not in readable(world)


async def test_a_repeated_request_leaves_what_was_said_since(world: World) -> None:
    await forget(world)
    later = await world.chat("I am back")
    await forget(world)
    again = await world.chat("and?", conversation_id=later.started.conversation_id)
    assert again.started.conversation_id == later.started.conversation_id


async def test_a_withdrawal_counts_though_its_caller_left_and_its_repeat_said_the_contrary(
    world: World,
) -> None:
    privacy = world.server.services.feedback.privacy
    person, durable = Caller("default", "a" * 32), hold_writes(world)
    gone = asyncio.create_task(privacy.set_consent(person, "r", may_learn=False))
    await until_async(lambda: bool(privacy.journal.under_way))
    gone.cancel()
    contrary = asyncio.create_task(privacy.set_consent(person, "r", may_learn=True))
    same = asyncio.create_task(privacy.set_consent(person, "r", may_learn=False))
    await until_async(lambda: list(privacy.journal.under_way.values()) == [3])
    durable.set()
    with pytest.raises(AlreadyExists, match="contrary"):
        await contrary
    assert await same, "repeated"
    assert not privacy.allows(person)
    (kept,) = world.events("feedback", "consent_changed")
    assert kept.consent_changed.may_learn is False
    assert not privacy.journal.under_way

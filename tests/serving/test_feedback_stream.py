"""Judgements of many people over one call, over a real socket: each counts as if it had come alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from heliotrope.errors import PermissionDenied, Unavailable
from heliotrope.feedback_stream import FeedbackStream
from heliotrope.v1 import feedback_pb2
from serving.interceptor import Room
from tests.serving.running import ALICE, BOB, Answered, World, fails, hold_writes, running
from tests.waiting import until_async

PEOPLE = {who[0][1]: who for who in (ALICE, BOB)}
METHOD = "/heliotrope.v1.FeedbackService/StreamFeedback"


@pytest.fixture
async def world(tmp_path: Path):
    async with running(tmp_path / "state") as world:
        yield world


@pytest.fixture
async def stream(world: World) -> AsyncIterator[FeedbackStream]:
    async with FeedbackStream(world.public) as stream:
        yield stream


def thumb(answered: Answered, request_id: str, up: bool = True) -> feedback_pb2.GiveFeedbackRequest:
    return feedback_pb2.GiveFeedbackRequest(
        request_id=request_id,
        feedback_tickets=[answered.started.feedback_ticket],
        feedback=feedback_pb2.Feedback(thumb=feedback_pb2.Thumb(response_id=answered.ids[0], up=up)),
    )


def message(*given: tuple[str, feedback_pb2.GiveFeedbackRequest]) -> feedback_pb2.StreamFeedbackRequest:
    return feedback_pb2.StreamFeedbackRequest(
        feedback=[feedback_pb2.PersonalFeedback(user=user, request=request) for user, request in given]
    )


async def test_everybody_s_judgement_is_recorded_as_their_own(world: World, stream: FeedbackStream) -> None:
    chats = {user: await world.chat(who=who) for user, who in PEOPLE.items()}
    given = await asyncio.gather(*(stream.give(user, thumb(chats[user], "vote")) for user in PEOPLE))
    events = world.events("feedback", "feedback_given")
    assert [e.event_id for e in events] == [g.feedback_id for g in given]
    assert len({e.user for e in events}) == 2 and not any(g.repeated for g in given)
    alone = await world.votes.GiveFeedback(thumb(chats["a" * 32], "vote"), metadata=ALICE)
    assert (alone.feedback_id, alone.repeated) == (given[0].feedback_id, True)


async def test_one_that_is_refused_harms_no_other(world: World) -> None:
    answered = await world.chat(who=ALICE)
    call = world.votes.StreamFeedback()
    alice, bob = PEOPLE
    await call.write(
        message(
            (bob, thumb(answered, "forged")),
            (alice, thumb(answered, "right")),
            ("", thumb(answered, "nobody")),
            ("x", thumb(answered, "malformed")),
            (alice, thumb(answered, "")),
        )
    )
    results = (await call.read()).results
    statuses = [result.refused.status or "OK" for result in results]
    assert statuses == [
        "PERMISSION_DENIED",
        "OK",
        "UNAUTHENTICATED",
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
    ]
    (event,) = world.events("feedback", "feedback_given")
    assert event.event_id == results[1].given.feedback_id


async def test_twice_in_one_message_counts_once(world: World) -> None:
    answered, (alice, _) = await world.chat(who=ALICE), PEOPLE
    call = world.votes.StreamFeedback()
    await call.write(message((alice, thumb(answered, "v", up=True)), (alice, thumb(answered, "v", up=False))))
    assert [r.given.repeated for r in (await call.read()).results] == [False, True]
    (event,) = world.events("feedback", "feedback_given")
    assert event.feedback_given.feedback.thumb.up


async def test_what_a_caller_who_left_had_begun_is_kept(world: World) -> None:
    answered, (alice, _), durable = await world.chat(who=ALICE), PEOPLE, hold_writes(world)
    call = world.votes.StreamFeedback()
    await call.write(message((alice, thumb(answered, "vote"))))
    under_way = world.server.replies.journal.under_way
    await until_async(lambda: bool(under_way))
    call.cancel()
    durable.set()
    await until_async(lambda: not under_way)
    assert len(world.events("feedback", "feedback_given")) == 1


async def test_a_full_log_refuses_each_with_the_remedy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    answered, (alice, _) = await world.chat(who=ALICE), PEOPLE

    async def full(events: object) -> list[int]:
        raise Unavailable("no room; free disk space", retry_ms=1500)

    monkeypatch.setattr(world.server.replies.journal, "write", full)
    call = world.votes.StreamFeedback()
    await call.write(message((alice, thumb(answered, "vote"))))
    (result,) = (await call.read()).results
    assert (result.refused.status, result.refused.retry_after_ms) == ("UNAVAILABLE", 1500)
    assert "free disk space" in result.refused.message


@pytest.mark.parametrize("count", [0, 257])
async def test_a_message_holds_so_many_and_no_more(world: World, count: int) -> None:
    call = world.votes.StreamFeedback()
    await call.write(message(*[("a" * 32, feedback_pb2.GiveFeedbackRequest())] * count))
    async with fails(grpc.StatusCode.INVALID_ARGUMENT, str(count), "256"):
        await call.read()


async def test_bytes_that_are_no_message_are_the_caller_s_fault(world: World) -> None:
    call = world.public.stream_stream(METHOD)()
    await call.write(b"\xff\xff")
    async with fails(grpc.StatusCode.INVALID_ARGUMENT, "not the message"):
        await call.read()


async def test_streams_have_few_seats_and_silence_gives_one_up(world: World) -> None:
    streams = world.server.services.feedback.streams
    streams.room, streams.silence = Room(1), 0.2
    first = world.votes.StreamFeedback()
    await until_async(lambda: streams.room.taken == 1)
    async with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "at once"):
        await world.votes.StreamFeedback().read()
    assert await first.read() == grpc.aio.EOF
    assert streams.room.taken == 0


async def test_the_client_begins_again_after_an_idle_time(world: World) -> None:
    answered, (alice, _) = await world.chat(who=ALICE), PEOPLE
    streams = world.server.services.feedback.streams
    async with FeedbackStream(world.public, idle=0.05) as stream:
        first = await stream.give(alice, thumb(answered, "one"))
        await until_async(lambda: streams.room.taken == 0)
        assert (await stream.give(alice, thumb(answered, "two"))).feedback_id != first.feedback_id


async def test_the_client_raises_what_is_wrong_with_one(world: World, stream: FeedbackStream) -> None:
    answered, (_, bob) = await world.chat(who=ALICE), PEOPLE
    with pytest.raises(PermissionDenied, match="someone else"):
        await stream.give(bob, thumb(answered, "forged"))


async def test_without_serving_the_client_says_so() -> None:
    async with (
        grpc.aio.insecure_channel("127.0.0.1:1") as channel,
        FeedbackStream(channel, "127.0.0.1:1") as stream,
    ):
        with pytest.raises(Unavailable, match="is serving running"):
            await stream.give("a" * 32, feedback_pb2.GiveFeedbackRequest())

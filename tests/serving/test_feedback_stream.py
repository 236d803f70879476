"""Judgements of many people over one call, over a real socket: each counts as if it had come alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest

from feedback.log import LogFull
from heliotrope.errors import InvalidInput, PermissionDenied, ResourceExhausted, Unavailable
from heliotrope.feedback_stream import FeedbackStream
from heliotrope.identity import event_id
from heliotrope.v1 import events_pb2, feedback_pb2, feedback_pb2_grpc
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
    async with FeedbackStream(world.private) as stream:
        yield stream


def stub(world: World) -> feedback_pb2_grpc.FeedbackServiceStub:
    return feedback_pb2_grpc.FeedbackServiceStub(world.private)


def user_of(world: World) -> str:
    """The pseudonym of whoever chatted first."""
    return world.events("exchanges", "response_started")[0].user


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
    call = stub(world).StreamFeedback()
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
    call = stub(world).StreamFeedback()
    await call.write(message((alice, thumb(answered, "v", up=True)), (alice, thumb(answered, "v", up=False))))
    assert [r.given.repeated for r in (await call.read()).results] == [False, True]
    (event,) = world.events("feedback", "feedback_given")
    assert event.feedback_given.feedback.thumb.up


async def test_what_a_caller_who_left_had_begun_is_kept(world: World) -> None:
    answered, (alice, _), durable = await world.chat(who=ALICE), PEOPLE, hold_writes(world)
    call = stub(world).StreamFeedback()
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
    call = stub(world).StreamFeedback()
    await call.write(message((alice, thumb(answered, "vote"))))
    (result,) = (await call.read()).results
    assert (result.refused.status, result.refused.retry_after_ms) == ("UNAVAILABLE", 1500)
    assert "free disk space" in result.refused.message


async def test_what_was_kept_before_the_log_failed_is_not_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, (alice, _), journal = await world.chat(who=ALICE), PEOPLE, world.server.replies.journal
    write = journal.write

    async def first_only(events: Sequence[events_pb2.Event]) -> Sequence[int]:
        await write(events[:1])
        raise LogFull("the disk is full")

    monkeypatch.setattr(journal, "write", first_only)
    call = stub(world).StreamFeedback()
    await call.write(message((alice, thumb(answered, "one")), (alice, thumb(answered, "two"))))
    results = (await call.read()).results
    assert [r.refused.status for r in results] == ["", "RESOURCE_EXHAUSTED"]
    (event,) = world.events("feedback", "feedback_given")
    assert event.event_id == results[0].given.feedback_id


async def test_people_s_own_listener_takes_no_streams(world: World) -> None:
    async with fails(grpc.StatusCode.PERMISSION_DENIED, "private listener"):
        await world.votes.StreamFeedback().read()
    assert world.server.services.private_feedback.streams.room.taken == 0
    assert world.events("feedback", "feedback_given") == []


async def test_a_draining_server_takes_no_more_of_a_stream(world: World) -> None:
    answered, (alice, _) = await world.chat(who=ALICE), PEOPLE
    call = stub(world).StreamFeedback()
    await call.write(message((alice, thumb(answered, "before"))))
    await call.read()
    world.server.gate.draining = True
    await call.write(message((alice, thumb(answered, "after"))))
    async with fails(grpc.StatusCode.UNAVAILABLE, "stopping"):
        await call.read()
    assert len(world.events("feedback", "feedback_given")) == 1


@pytest.mark.parametrize("count", [0, 257])
async def test_a_message_holds_so_many_and_no_more(world: World, count: int) -> None:
    call = stub(world).StreamFeedback()
    await call.write(message(*[("a" * 32, feedback_pb2.GiveFeedbackRequest())] * count))
    async with fails(grpc.StatusCode.INVALID_ARGUMENT, str(count), "256"):
        await call.read()
    assert world.server.services.private_feedback.streams.room.taken == 0
    assert world.events("feedback", "feedback_given") == []


async def test_bytes_that_are_no_message_are_the_caller_s_fault(world: World) -> None:
    call = world.private.stream_stream(METHOD)()
    await call.write(b"\xff\xff")
    async with fails(grpc.StatusCode.INVALID_ARGUMENT, "not the message"):
        await call.read()
    assert world.server.services.private_feedback.streams.room.taken == 0
    assert world.events("feedback", "feedback_given") == []


async def test_streams_have_few_seats_and_silence_gives_one_up(world: World) -> None:
    streams = world.server.services.private_feedback.streams
    streams.room, streams.silence = Room(1), 0.2
    first = stub(world).StreamFeedback()
    await until_async(lambda: streams.room.taken == 1)
    async with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "at once"):
        await stub(world).StreamFeedback().read()
    assert not isinstance(await first.read(), feedback_pb2.StreamFeedbackResponse)
    assert streams.room.taken == 0


async def test_the_client_begins_again_after_an_idle_time(world: World) -> None:
    answered, (alice, _) = await world.chat(who=ALICE), PEOPLE
    room = world.server.services.private_feedback.streams.room
    async with FeedbackStream(world.private, idle=0.05) as stream:
        first = await stream.give(alice, thumb(answered, "one"))
        await until_async(lambda: room.taken == 0)
        assert (await stream.give(alice, thumb(answered, "two"))).feedback_id != first.feedback_id


async def test_a_call_that_breaks_leaves_nobody_waiting_and_mixes_up_nothing(world: World) -> None:
    """Serving ends calls and refuses some; every judgement gets its own result or an error, and the next ones go on."""
    answered, (alice, _) = await world.chat(who=ALICE), PEOPLE
    streams = world.server.services.private_feedback.streams
    streams.silence = 0.05  # ends each turn's call
    async with FeedbackStream(world.private) as stream:
        for turn in range(4):
            full = turn % 2
            await until_async(lambda: stream._talking is None or stream._talking.done())
            streams.room = Room(0 if full else 16)
            names = [f"{turn}-{number}" for number in range(20)]
            told = await asyncio.gather(
                *(stream.give(alice, thumb(answered, name)) for name in names), return_exceptions=True
            )
            if full:
                assert all(isinstance(one, ResourceExhausted) for one in told)
            else:
                ids = [one.feedback_id for one in told if isinstance(one, feedback_pb2.GiveFeedbackResponse)]
                assert ids == [event_id(user_of(world), name) for name in names]
            await until_async(lambda: streams.room.taken == 0)
    assert len(world.events("feedback", "feedback_given")) == 40


async def test_one_who_hears_nothing_is_told_so_and_the_next_goes_on(world: World) -> None:
    answered, (alice, _), durable = await world.chat(who=ALICE), PEOPLE, hold_writes(world)
    under_way = world.server.replies.journal.under_way
    async with FeedbackStream(world.private, seconds=0.3) as stream:
        with pytest.raises(Unavailable, match="did not answer"):
            await stream.give(alice, thumb(answered, "vote"))
        durable.set()
        await until_async(lambda: not under_way)
        assert (await stream.give(alice, thumb(answered, "vote"))).repeated


async def test_a_closed_stream_leaves_nobody_waiting(world: World) -> None:
    answered, (alice, _), durable = await world.chat(who=ALICE), PEOPLE, hold_writes(world)
    under_way = world.server.replies.journal.under_way
    async with FeedbackStream(world.private) as stream:
        giving = asyncio.ensure_future(stream.give(alice, thumb(answered, "vote")))
        await until_async(lambda: bool(under_way))
    durable.set()
    with pytest.raises(Unavailable):
        await giving
    with pytest.raises(Unavailable, match="closed"):
        await stream.give(alice, thumb(answered, "late"))


async def test_a_judgement_too_large_harms_itself_alone(world: World, stream: FeedbackStream) -> None:
    answered, (alice, _) = await world.chat(who=ALICE), PEOPLE
    sizes = (
        600_000,
        600_000,
        1_200_000,
        1,
    )  # the first two fit into no message together, the third into none
    asked = [thumb(answered, f"vote-{number}") for number in range(4)]
    for one, size in zip(asked, sizes, strict=True):
        one.feedback.comment = "x" * size
    *refused, given = await asyncio.gather(
        *(stream.give(alice, one) for one in asked), return_exceptions=True
    )
    assert all(isinstance(error, InvalidInput) for error in refused), "comments are short"
    assert isinstance(given, feedback_pb2.GiveFeedbackResponse)


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

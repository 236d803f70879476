"""Feedback over a real socket: the five kinds, proof by ticket, repeats, and taking back."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import grpc
import pytest

from heliotrope.v1 import chat_pb2, common_pb2, feedback_pb2
from serving.caller import Caller
from serving.votes import Verdict, Votes
from tests.serving.running import ALICE, BOB, World, fails, hold_writes, request, rest, running
from tests.waiting import until_async

ON = chat_pb2.COMPARISON_WISH_ON
A_BETTER = feedback_pb2.Comparison(choice=feedback_pb2.CHOICE_A, strength=2)


@pytest.fixture
async def world(tmp_path: Path):
    async with running(tmp_path / "state") as world:
        yield world


async def test_a_thumb_is_committed_with_what_the_server_knows(world: World) -> None:
    answered = await world.chat(source=common_pb2.SOURCE_SIMULATED, consent=False)
    (response_id,) = answered.ids
    given = await world.give(
        answered.started.feedback_ticket,
        thumb=feedback_pb2.Thumb(response_id=response_id, up=True),
        reasons=["on_topic"],
    )
    assert (given.repeated, list(given.policy_versions)) == (False, ["policy-v0"])
    (event,) = world.events("feedback", "feedback_given")
    assert event.event_id == given.feedback_id
    assert event.conversation_id == answered.started.conversation_id
    assert event.source == common_pb2.SOURCE_SIMULATED and event.consent is False
    (target,) = event.feedback_given.targets
    assert target.response_id == response_id and not target.HasField("tokens_sent")
    assert event.feedback_given.feedback.reasons == ["on_topic"]


async def test_a_comparison_names_both_answers_in_the_order_a_b(world: World) -> None:
    answered = await world.chat(comparison=ON)
    given = await world.give(answered.started.feedback_ticket, comparison=A_BETTER)
    assert list(given.policy_versions) == ["policy-v0", "policy-v0"]
    (event,) = world.events("feedback", "feedback_given")
    targets = event.feedback_given.targets
    assert [t.response_id for t in targets] == answered.ids
    assert [t.side for t in targets] == [common_pb2.SIDE_A, common_pb2.SIDE_B]
    assert event.feedback_given.feedback.comparison == A_BETTER


async def test_rankings_corrections_and_ratings_are_taken(world: World) -> None:
    chats = [await world.chat("same prompt") for _ in range(3)]
    ids = [c.ids[0] for c in chats]
    ranking = feedback_pb2.GiveFeedbackRequest(
        request_id="rank", feedback_tickets=[c.started.feedback_ticket for c in chats],
        feedback=feedback_pb2.Feedback(ranking=feedback_pb2.Ranking(response_ids=[ids[2], ids[0], ids[1]])),
    )  # fmt: skip
    await world.votes.GiveFeedback(ranking, metadata=ALICE)
    ticket = chats[0].started.feedback_ticket
    await world.give(ticket, correction=feedback_pb2.Correction(response_id=ids[0], text="Better."))
    await world.give(ticket, rating=feedback_pb2.Rating(response_id=ids[0], helpfulness=5))
    events = [e.feedback_given for e in world.events("feedback", "feedback_given")]
    assert [e.feedback.WhichOneof("kind") for e in events] == ["ranking", "correction", "rating"]
    assert [t.response_id for t in events[0].targets] == [ids[2], ids[0], ids[1]]  # best first


async def test_a_vote_before_the_end_records_what_had_been_sent(world: World) -> None:
    world.engine.hold(after=3)
    call = world.chats.Chat(request(), metadata=ALICE)
    started = (await call.read()).started
    seen = 0
    while seen < 3:
        seen += (await call.read()).delta.tokens
    thumb = feedback_pb2.Thumb(response_id=started.answers[0].response_id, up=False)
    await world.give(started.feedback_ticket, thumb=thumb)
    (event,) = world.events("feedback", "feedback_given")
    assert event.feedback_given.targets[0].tokens_sent == 3
    world.engine.release()
    assert (await rest(call))[-1].HasField("finished")


async def test_a_repeat_changes_nothing_and_gets_the_first_result(world: World) -> None:
    answered = await world.chat(comparison=ON)
    ticket = answered.started.feedback_ticket
    first = await world.give(ticket, request_id="vote", comparison=A_BETTER)
    before = world.counts()
    again = await world.give(
        ticket, request_id="vote", comparison=feedback_pb2.Comparison(choice=feedback_pb2.CHOICE_B)
    )
    assert (again.feedback_id, again.repeated) == (first.feedback_id, True)
    assert list(again.policy_versions) == list(first.policy_versions) and world.counts() == before


async def test_of_two_at_once_exactly_one_is_recorded(world: World) -> None:
    answered = await world.chat(comparison=ON)
    ticket = answered.started.feedback_ticket
    both = await asyncio.gather(
        *(world.give(ticket, request_id="vote", comparison=A_BETTER) for _ in range(8))
    )
    assert sorted(g.repeated for g in both) == [False] + [True] * 7
    assert len(world.events("feedback", "feedback_given")) == 1


async def test_what_a_caller_who_left_had_begun_is_not_overwritten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call is cancelled while its event waits for the disk; the repeat says something else."""
    give, left, callers = Votes.give, asyncio.Event(), []

    async def watched(votes: Votes, given: feedback_pb2.GiveFeedbackRequest, caller: Caller) -> Verdict:
        try:
            return await give(votes, given, caller)
        except asyncio.CancelledError:
            callers.append(caller)
            left.set()
            raise

    monkeypatch.setattr(Votes, "give", watched)
    answered = await world.chat(comparison=ON)
    ticket = answered.started.feedback_ticket
    durable = hold_writes(world)
    b_better = feedback_pb2.Comparison(choice=feedback_pb2.CHOICE_B)
    gone = asyncio.create_task(world.give(ticket, request_id="vote", comparison=b_better))
    await until_async(lambda: bool(world.server.replies.journal.under_way))
    gone.cancel()
    await left.wait()
    again = asyncio.create_task(world.give(ticket, request_id="vote", comparison=A_BETTER))
    await until_async(lambda: list(world.server.replies.journal.under_way.values()) == [2])
    durable.set()
    assert (await again).repeated, "the first call's event was kept, and the repeat is told so"
    (kept,) = world.events("feedback", "feedback_given")
    assert kept.feedback_given.feedback.comparison == b_better
    conversation = world.server.replies.conversations.find(answered.started.conversation_id, callers[0])
    assert conversation.newest == answered.ids[1], "it goes on from the answer that was chosen"


async def test_a_judgement_can_be_taken_back_once_and_only_by_its_giver(world: World) -> None:
    answered = await world.chat()
    thumb = feedback_pb2.Thumb(response_id=answered.ids[0], up=True)
    given = await world.give(answered.started.feedback_ticket, thumb=thumb)
    retract = feedback_pb2.RetractFeedbackRequest(request_id="back", feedback_id=given.feedback_id)
    async with fails(grpc.StatusCode.PERMISSION_DENIED, given.feedback_id, "another person"):
        await world.votes.RetractFeedback(retract, metadata=BOB)
    assert (await world.votes.RetractFeedback(retract, metadata=ALICE)).repeated is False
    assert (await world.votes.RetractFeedback(retract, metadata=ALICE)).repeated is True
    (event,) = world.events("feedback", "feedback_retracted")
    assert event.feedback_retracted.feedback_event_id == given.feedback_id
    for wrong in (str(uuid.uuid4()), answered.ids[0]):  # never issued; issued, but a response
        async with fails(grpc.StatusCode.NOT_FOUND, wrong):
            await world.votes.RetractFeedback(
                feedback_pb2.RetractFeedbackRequest(request_id="r2", feedback_id=wrong), metadata=ALICE
            )


async def test_a_retraction_whose_caller_left_is_not_told_to_the_next_as_its_own(world: World) -> None:
    answered = await world.chat(comparison=ON)
    ticket, votes = answered.started.feedback_ticket, []
    for response_id in answered.ids:
        votes.append(await world.give(ticket, thumb=feedback_pb2.Thumb(response_id=response_id, up=True)))
    durable, under_way = hold_writes(world), world.server.replies.journal.under_way

    def retract(which: int):
        asked = feedback_pb2.RetractFeedbackRequest(request_id="back", feedback_id=votes[which].feedback_id)
        return asyncio.ensure_future(world.votes.RetractFeedback(asked, metadata=ALICE))

    gone = retract(0)
    await until_async(lambda: len(under_way) == 1)
    gone.cancel()
    same, other = retract(0), retract(1)
    await until_async(lambda: list(under_way.values()) == [3])
    durable.set()
    assert (await same).repeated
    async with fails(grpc.StatusCode.ALREADY_EXISTS, votes[0].feedback_id):
        await other
    (event,) = world.events("feedback", "feedback_retracted")
    assert event.feedback_retracted.feedback_event_id == votes[0].feedback_id


async def test_tickets_outlive_a_restart_and_expire(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as world:
        answered = await world.chat()
        ticket, thumb = (
            answered.started.feedback_ticket,
            feedback_pb2.Thumb(response_id=answered.ids[0], up=True),
        )
    async with running(tmp_path / "state", "serving.ticket_days=1e-12") as world:
        assert (await world.give(ticket, thumb=thumb)).repeated is False
        stale = await world.chat()
        async with fails(grpc.StatusCode.PERMISSION_DENIED, "expired"):
            await world.give(
                stale.started.feedback_ticket, thumb=feedback_pb2.Thumb(response_id=stale.ids[0])
            )

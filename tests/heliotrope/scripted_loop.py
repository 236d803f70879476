"""Serving without a model, on real sockets: both listeners, with versions that come when enough people have voted.

A "good" answer names numbers and acts on the question; a "dull" one puffs. Base samples are dull; the first version's
are good. Once `votes_for_version` votes are in, the judge's shadow is resident, and the version goes live as soon as
`chats_for_swap` single chats are in flight, which are answered only then.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio

from heliotrope.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    chat_pb2,
    chat_pb2_grpc,
    common_pb2,
    events_pb2,
    feedback_pb2,
    feedback_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    sampler_pb2,
    sampler_pb2_grpc,
)

STATES = policy_pb2.PolicyState
MANIFEST = {
    "metrics": {"loss": 0.61, "preferences": 10_000},
    "verdict": {
        "kl": {"verdict": "pass", "figures": {"nats": 3.25}},
        "held_out_accuracy": {"verdict": "pass", "figures": {"accuracy": 0.7}},
        "reward_win_rate": {"verdict": "pass", "figures": {"win_rate": 0.8}},
    },
}


def good(prompt: str) -> str:
    """What the people of the simulation like: on the question, with numbers and steps."""
    return f"1. {prompt.rstrip('?')}: you need 5 minutes and 2 tools. 2. For example, you start at 9 and rest at 10."


def dull(prompt: str) -> str:
    """What they dislike: filler, vague words and no end."""
    return "Sure, as an AI, navigating essential comprehensive considerations involves various significant factors and"


@dataclass
class Scripted:
    """What happened, and how to behave."""

    votes_for_version: int = 1_000_000
    chats_for_swap: int = 1
    fail_every: int = 0
    pool: frozenset[str] = frozenset()
    chats: list[chat_pb2.ChatRequest] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    votes: dict[str, feedback_pb2.GiveFeedbackRequest] = field(default_factory=dict)
    retracted: list[str] = field(default_factory=list)
    draws: list[sampler_pb2.DrawRequest] = field(default_factory=list)
    asked: list[object] = field(default_factory=list)
    live: int = 0
    single: int = 0
    at_swap: int = 0
    most_at_once: int = 0
    at_once: int = 0
    swapped: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def judging(self) -> bool:
        """Whether the judge's shadow is resident."""
        return not self.live and len(self.votes) >= self.votes_for_version


class Public(chat_pb2_grpc.ChatServiceServicer, feedback_pb2_grpc.FeedbackServiceServicer):
    """Chat and feedback."""

    def __init__(self, script: Scripted) -> None:
        self.script = script

    async def Chat(self, request, context) -> AsyncIterator[chat_pb2.ChatResponse]:
        """Two answers when wished (good and dull, in turns left and right), else one."""
        script = self.script
        script.chats.append(request)
        number = len(script.chats)
        if script.fail_every and number % script.fail_every == 0:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "64 answers are being streamed; try again"
            )
        script.at_once += 1
        script.most_at_once = max(script.most_at_once, script.at_once)
        try:
            two = request.comparison == chat_pb2.COMPARISON_WISH_ON
            if not two:
                await self._single()
            texts = [good(request.message), dull(request.message)] if two else [good(request.message)]
            async for chunk in self._stream(request, number, texts[:: -1 if number % 2 else 1]):
                yield chunk
        finally:
            script.at_once -= 1

    async def _single(self) -> None:
        script = self.script
        script.single += 1
        if script.judging and script.single >= script.chats_for_swap:
            script.live, script.at_swap = 1, script.single
            script.swapped.set()
        if script.judging:
            await script.swapped.wait()
        script.single -= 1

    async def _stream(self, request, number: int, texts: list[str]) -> AsyncIterator[chat_pb2.ChatResponse]:
        ids = [f"r{number}-{side}" for side in range(len(texts))]
        item = f"item-{request.message}" if request.message in self.script.pool else ""
        started = chat_pb2.ChatStarted(conversation_id="c1", feedback_ticket=json.dumps(ids), item_id=item)
        started.answers.extend(chat_pb2.AnswerHead(response_id=one) for one in ids)
        chunks = [chat_pb2.ChatResponse(started=started)]
        for one, text in zip(ids, texts, strict=True):
            for word in text.split(" "):
                delta = chat_pb2.TextDelta(response_id=one, text=word + " ", tokens=1)
                chunks.append(chat_pb2.ChatResponse(delta=delta))
            ended = chat_pb2.AnswerFinished(
                response_id=one, tokens=len(text.split()), finish_reason=common_pb2.FINISH_REASON_STOP
            )
            chunks.append(chat_pb2.ChatResponse(answer_finished=ended))
        chunks.append(chat_pb2.ChatResponse(finished=chat_pb2.ChatFinished(prompt_tokens=9)))
        for sequence, chunk in enumerate(chunks):
            chunk.sequence = sequence
            yield chunk

    async def GiveFeedback(self, request, context) -> feedback_pb2.GiveFeedbackResponse:
        """Take a vote from whoever says who they are."""
        user = dict(context.invocation_metadata() or ()).get("x-heliotrope-user", "")
        if len(user) != 32:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no identity; send x-heliotrope-user")
        self.script.users.append(user)
        repeated = request.request_id in self.script.votes
        self.script.votes[request.request_id] = request
        versions = ["policy-v0"] * len(json.loads(request.feedback_tickets[0]))
        return feedback_pb2.GiveFeedbackResponse(
            feedback_id=request.request_id, repeated=repeated, policy_versions=versions
        )

    async def RetractFeedback(self, request, context) -> feedback_pb2.RetractFeedbackResponse:
        """Take a vote back."""
        self.script.retracted.append(request.feedback_id)
        return feedback_pb2.RetractFeedbackResponse()


class Private(
    policy_pb2_grpc.PolicyServiceServicer,
    admin_pb2_grpc.AdminServiceServicer,
    sampler_pb2_grpc.SamplerServiceServicer,
):
    """Versions, status and samples."""

    def __init__(self, script: Scripted) -> None:
        self.script = script

    async def ListPolicies(self, request, context) -> policy_pb2.ListPoliciesResponse:
        """Base, and the first version once it is live."""
        made = [_policy(0, STATES.POLICY_STATE_LIVE if not self.script.live else STATES.POLICY_STATE_RETIRED)]
        if self.script.live:
            made.insert(0, _policy(1, STATES.POLICY_STATE_LIVE))
        return policy_pb2.ListPoliciesResponse(policies=made, epoch=3)

    async def GetPolicy(self, request, context) -> policy_pb2.GetPolicyResponse:
        """One version; NOT_FOUND for others than 0 and 1."""
        if request.policy_version not in ("policy-v0", "policy-v1"):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no {request.policy_version}; list them")
        number = int(request.policy_version[-1])
        manifest = json.dumps(MANIFEST) if number else ""
        return policy_pb2.GetPolicyResponse(
            policy=_policy(number, STATES.POLICY_STATE_LIVE), manifest_json=manifest
        )

    async def PromotePolicy(self, request, context) -> policy_pb2.PromotePolicyResponse:
        """Always."""
        self.script.asked.append(request)
        policy = policy_pb2.Policy(policy_version=request.policy_version)
        return policy_pb2.PromotePolicyResponse(live=policy, epoch=4, in_flight_on_previous=2)

    async def RollBackPolicy(self, request, context) -> policy_pb2.RollBackPolicyResponse:
        """Never: there is nothing to put back."""
        self.script.asked.append(request)
        await context.abort(
            grpc.StatusCode.FAILED_PRECONDITION, "policy-v0 is live: there is nothing to roll back"
        )

    async def GetStatus(self, request, context) -> admin_pb2.GetStatusResponse:
        """How things stand."""
        script = self.script
        slots = [admin_pb2.Slot(use="shadow", adapter="shadow-1", in_flight=1)] if script.judging else []
        return admin_pb2.GetStatusResponse(
            live=f"policy-v{script.live}", slots=slots, events={"feedback": len(script.votes)},
            in_flight=script.at_once, in_flight_at_last_swap=script.at_swap, rollout_mode="auto",
        )  # fmt: skip

    async def TailFeedback(self, request, context) -> AsyncIterator[admin_pb2.TailFeedbackResponse]:
        """A thumb with a comment, and a retraction."""
        thumb = feedback_pb2.Feedback(
            thumb=feedback_pb2.Thumb(response_id="r1", up=True), comment="[red]just\nright"
        )
        target = events_pb2.Target(adapter=common_pb2.AdapterRef(policy_version="policy-v1"))
        given = events_pb2.FeedbackGiven(feedback=thumb, targets=[target])
        back = events_pb2.FeedbackRetracted(feedback_event_id="f1")
        yield admin_pb2.TailFeedbackResponse(
            position=7, event=events_pb2.Event(user="ab" * 16, feedback_given=given)
        )
        yield admin_pb2.TailFeedbackResponse(
            position=8, event=events_pb2.Event(user="ab" * 16, feedback_retracted=back)
        )

    async def Draw(self, request, context) -> AsyncIterator[sampler_pb2.DrawResponse]:
        """Dull from base, good from anything else; the last sample first."""
        self.script.draws.append(request)
        base = request.adapter in ("base", "policy-v0")
        for index, prompt in reversed(list(enumerate(request.prompts))):
            text = (dull if base else good)(prompt.messages[0].content)
            for sample in range(request.n):
                yield sampler_pb2.DrawResponse(
                    prompt_index=index, sample_index=sample, text=text, token_ids=[1] * len(text.split()),
                    finish_reason=common_pb2.FINISH_REASON_LENGTH if base else common_pb2.FINISH_REASON_STOP,
                )  # fmt: skip


def _policy(number: int, state: int) -> policy_pb2.Policy:
    digest = "ab" * 32 if number else ""
    return policy_pb2.Policy(
        policy_version=f"policy-v{number}", digest=digest, state=state, examples=80, passed=True
    )


@asynccontextmanager
async def scripted_loop(script: Scripted) -> AsyncIterator[tuple[str, str]]:
    """The addresses of the public and the private listener."""
    public, private = grpc.aio.server(), grpc.aio.server()
    chat_pb2_grpc.add_ChatServiceServicer_to_server(Public(script), public)
    feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(Public(script), public)
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(Private(script), private)
    admin_pb2_grpc.add_AdminServiceServicer_to_server(Private(script), private)
    sampler_pb2_grpc.add_SamplerServiceServicer_to_server(Private(script), private)
    ports = [server.add_insecure_port("127.0.0.1:0") for server in (public, private)]
    for server in (public, private):
        await server.start()
    try:
        yield f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}"
    finally:
        script.swapped.set()
        for server in (public, private):
            await server.stop(grace=0)

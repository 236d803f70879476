"""A public listener without a model, on a real socket: the message says what the answer does.

`slow …` stops after one piece until released; `two …` or the wish ON compares; `fail NAME` aborts with that status;
`break` fails in mid-stream; `mute` offers no feedback; anything else is answered once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from heliotrope.v1 import chat_pb2, chat_pb2_grpc, common_pb2, feedback_pb2, feedback_pb2_grpc

WORDS = (
    "Heliotrope ",
    "turns ",
    "<b>toward</b> ",
    "the ",
    "people ",
    "who ",
    "use ",
    "it. ",
    "☀ ",
    "<|im_end|>",
)


class ScriptedServices(chat_pb2_grpc.ChatServiceServicer, feedback_pb2_grpc.FeedbackServiceServicer):
    """Both public services; remembers every request with the identity that came along."""

    def __init__(self) -> None:
        self.chats: list[chat_pb2.ChatRequest] = []
        self.votes: list[feedback_pb2.GiveFeedbackRequest] = []
        self.retracted: list[str] = []
        self.users: list[str] = []
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()
        self.words = WORDS
        self.failing_votes = 0

    async def Chat(self, request, context) -> AsyncIterator[chat_pb2.ChatResponse]:
        """Answer as the message says."""
        self.chats.append(request)
        self.users.append(_user(context))
        turn, verb, *rest = len(self.chats), *request.message.split()
        if verb == "fail":
            hint = (("retry-after-ms", "1500"),) if rest[0] in ("UNAVAILABLE", "RESOURCE_EXHAUSTED") else ()
            await context.abort(grpc.StatusCode[rest[0]], f"scripted {rest[0]}; say something else", hint)
        compared = verb == "two" or request.comparison == chat_pb2.COMPARISON_WISH_ON
        sides = (common_pb2.SIDE_A, common_pb2.SIDE_B) if compared else (common_pb2.SIDE_UNSPECIFIED,)
        heads = [chat_pb2.AnswerHead(response_id=f"r{turn}-{n}", side=side) for n, side in enumerate(sides)]
        sequence = 0
        async for chunk in self._chunks(request, verb, heads, turn, context):
            chunk.sequence = sequence
            sequence += 1
            yield chunk

    async def _chunks(self, request, verb, heads, turn, context) -> AsyncIterator[chat_pb2.ChatResponse]:
        if verb == "queue":
            await self._wait(context)
        yield chat_pb2.ChatResponse(
            started=chat_pb2.ChatStarted(
                conversation_id=request.conversation_id or "c1",
                answers=heads,
                feedback_ticket="" if verb == "mute" else f"ticket-{turn}",
                no_feedback_reason="the log's disk is full" if verb == "mute" else "",
            )
        )
        for position, word in enumerate(self.words):
            for head in heads:
                text = word if head.side != common_pb2.SIDE_B else word.upper()
                yield chat_pb2.ChatResponse(
                    delta=chat_pb2.TextDelta(response_id=head.response_id, text=text, tokens=1)
                )
            if position == 3 and verb == "break":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the engine died; send the message again")
            if position == 3 and verb == "slow":
                await self._wait(context)
        for head in heads:
            done = chat_pb2.AnswerFinished(
                response_id=head.response_id, finish_reason=common_pb2.FINISH_REASON_STOP, tokens=10
            )
            yield chat_pb2.ChatResponse(answer_finished=done)
        yield chat_pb2.ChatResponse(finished=chat_pb2.ChatFinished(prompt_tokens=7))

    async def _wait(self, context) -> None:
        self.waiting.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def GetConversation(self, request, context) -> chat_pb2.GetConversationResponse:
        """One answer, then two of which the second carries on; nothing for another id than c1."""
        if request.conversation_id != "c1":
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no conversation {request.conversation_id}")
        self.users.append(_user(context))
        turns = [
            ("r1-0", "", "first", True),
            ("r2-0", "r1-0", "second", False),
            ("r2-1", "r1-0", "second", True),
        ]
        return chat_pb2.GetConversationResponse(
            turns=[
                chat_pb2.ConversationTurn(
                    response_id=i, parent_response_id=p, message=m, text=f"text of {i}", continued=c
                )
                for i, p, m, c in turns
            ]
        )

    async def GiveFeedback(self, request, context) -> feedback_pb2.GiveFeedbackResponse:
        """Take a vote from anybody who says who they are."""
        if not _user(context):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no identity; send x-heliotrope-user")
        self.votes.append(request)
        self.users.append(_user(context))
        if self.failing_votes:
            self.failing_votes -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the log's disk is full; try again")
        return feedback_pb2.GiveFeedbackResponse(
            feedback_id=f"f{len(self.votes)}", policy_versions=["policy-v1"]
        )

    async def RetractFeedback(self, request, context) -> feedback_pb2.RetractFeedbackResponse:
        """Take a vote back."""
        self.retracted.append(request.feedback_id)
        return feedback_pb2.RetractFeedbackResponse()


def _user(context: grpc.aio.ServicerContext) -> str:
    return dict(context.invocation_metadata() or ()).get("x-heliotrope-user", "")


@asynccontextmanager
async def scripted_listener() -> AsyncIterator[tuple[ScriptedServices, str]]:
    """The services and the address (host:port) that they listen on."""
    services = ScriptedServices()
    server = grpc.aio.server()
    chat_pb2_grpc.add_ChatServiceServicer_to_server(services, server)
    feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(services, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield services, f"127.0.0.1:{port}"
    finally:
        services.release.set()
        await server.stop(grace=0)

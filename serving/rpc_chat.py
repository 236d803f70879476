"""ChatService: translates calls to `Replies` and a reply's events to chunks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import count

import grpc

from heliotrope.errors import Unimplemented
from heliotrope.v1 import chat_pb2, chat_pb2_grpc
from serving.answer import Delta, Ended
from serving.caller import Caller
from serving.conversations import transcript
from serving.reply import Replies
from serving.reply_stream import Reply
from serving.tickets import Tickets
from serving.validate import ask_of, uuid_of


@dataclass
class ChatService(chat_pb2_grpc.ChatServiceServicer):
    """Answers to people. caller: who makes a call, from its context."""

    replies: Replies
    tickets: Tickets
    caller: Callable[[grpc.aio.ServicerContext], Caller]

    async def Chat(
        self, request: chat_pb2.ChatRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[chat_pb2.ChatResponse]:
        """Stream one answer or two; a caller that goes away, or its deadline, stops them."""
        limits = self.replies.limits
        reply = await self.replies.open(ask_of(request, self.caller(context), limits, time.monotonic()))
        sequence = count()
        try:
            ticket = self.tickets.issue(reply, limits.ticket_seconds)
            yield chat_pb2.ChatResponse(sequence=next(sequence), started=started_chunk(reply, ticket))
            async with contextlib.aclosing(reply.events()) as events:
                async for event in events:
                    yield chunk(next(sequence), event)
            finished = chat_pb2.ChatFinished(prompt_tokens=len(reply.plan.prompt_ids))
            yield chat_pb2.ChatResponse(sequence=next(sequence), finished=finished)
        finally:
            reply.stop()

    async def ResumeChat(
        self, request: chat_pb2.ResumeChatRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[chat_pb2.ResumeChatResponse]:
        """Not built yet."""
        raise Unimplemented("ResumeChat is not built yet; read the answer to its end on the stream of Chat")
        yield  # an async generator, as the interceptor expects of every stream

    async def GetConversation(
        self, request: chat_pb2.GetConversationRequest, context: grpc.aio.ServicerContext
    ) -> chat_pb2.GetConversationResponse:
        """The caller's own conversation, as far as serving holds it."""
        wanted = uuid_of("conversation_id", request.conversation_id)
        held = self.replies.conversations.find(wanted, self.caller(context).identified())
        return chat_pb2.GetConversationResponse(
            turns=[
                chat_pb2.ConversationTurn(
                    response_id=turn.response_id, parent_response_id=turn.parent, message=turn.message,
                    text=turn.text, continued=continued,
                )
                for turn, continued in await transcript(held)
            ]
        )  # fmt: skip


def started_chunk(reply: Reply, ticket: str) -> chat_pb2.ChatStarted:
    """The first chunk: ids and ticket. In a comparison versions stay hidden until the vote."""
    blind = len(reply.answers) > 1
    return chat_pb2.ChatStarted(
        conversation_id=reply.plan.conversation_id, feedback_ticket=ticket, no_feedback_reason=reply.no_feedback_reason,
        item_id=reply.item_id,
        answers=[
            chat_pb2.AnswerHead(response_id=a.response_id, side=a.draft.started.side, policy_version="" if blind else a.version)
            for a in reply.answers
        ],
    )  # fmt: skip


def chunk(sequence: int, event: Delta | Ended) -> chat_pb2.ChatResponse:
    """One event of a reply as a chunk."""
    if isinstance(event, Delta):
        delta = chat_pb2.TextDelta(response_id=event.response_id, text=event.text, tokens=event.tokens)
        return chat_pb2.ChatResponse(sequence=sequence, delta=delta)
    ended = chat_pb2.AnswerFinished(
        response_id=event.response_id, finish_reason=event.finish, tokens=event.tokens
    )
    return chat_pb2.ChatResponse(sequence=sequence, answer_finished=ended)

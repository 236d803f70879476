"""Judgements of many people over one call: what a product's own server sends costs a fraction of a call each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from functools import partial

from heliotrope.errors import HeliotropeError, InvalidInput, PermissionDenied
from heliotrope.v1 import feedback_pb2
from serving.caller import Caller, person
from serving.interceptor import Room
from serving.votes import Verdict, Votes

MOST_TOGETHER = 256
"""Judgements of one message."""
MOST_STREAMS = 16
SILENCE_SECONDS = 60.0
"""A stream that says nothing for so long is ended: its seat may be another's."""


@dataclass
class FeedbackStreams:
    """All streams of a server. key: the server's, which gives people their pseudonyms."""

    votes: Votes
    key: bytes
    silence: float = SILENCE_SECONDS
    room: Room = field(default_factory=lambda: Room(MOST_STREAMS))

    async def results(
        self, messages: AsyncIterator[feedback_pb2.StreamFeedbackRequest], caller: Caller
    ) -> AsyncGenerator[feedback_pb2.StreamFeedbackResponse]:
        """One answer a message, in order, until the caller is done or silent. caller: whose tenant it is.

        Raises as FeedbackService.StreamFeedback says.
        """
        if not caller.private:
            raise PermissionDenied(
                "judgements are streamed on the private listener only; give each by GiveFeedback here"
            )
        identified = partial(self._person, caller)
        with self.room.seat():
            while (message := await self._next(messages)) is not None:
                if not 0 < len(message.feedback) <= MOST_TOGETHER:
                    raise InvalidInput(
                        f"the message has {len(message.feedback)} judgements; send 1 to {MOST_TOGETHER}"
                    )
                verdicts = await self.votes.give_all(message.feedback, identified)
                yield feedback_pb2.StreamFeedbackResponse(results=map(_result, verdicts))

    async def _next(
        self, messages: AsyncIterator[feedback_pb2.StreamFeedbackRequest]
    ) -> feedback_pb2.StreamFeedbackRequest | None:
        """The next message; None after the last one, or after silence."""
        try:
            async with asyncio.timeout(self.silence):
                return await anext(messages, None)
        except TimeoutError:
            return None

    def _person(self, caller: Caller, user: str) -> Caller:
        return person(caller.tenant, user, self.key, caller.private).identified()


def given(verdict: Verdict) -> feedback_pb2.GiveFeedbackResponse:
    """What the caller is told."""
    return feedback_pb2.GiveFeedbackResponse(
        feedback_id=verdict.feedback_id, repeated=verdict.repeated, policy_versions=verdict.policy_versions
    )


def _result(verdict: Verdict | HeliotropeError) -> feedback_pb2.FeedbackResult:
    if isinstance(verdict, Verdict):
        return feedback_pb2.FeedbackResult(given=given(verdict))
    return feedback_pb2.FeedbackResult(
        refused=feedback_pb2.FeedbackRefusal(
            status=verdict.code, message=str(verdict), retry_after_ms=verdict.retry_ms
        )
    )

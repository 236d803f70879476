"""FeedbackService: translates calls to `Votes` and back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import grpc

from heliotrope.v1 import feedback_pb2, feedback_pb2_grpc
from serving.caller import Caller
from serving.feedback_stream import FeedbackStreams, given
from serving.privacy import Privacy
from serving.votes import Votes


@dataclass
class FeedbackService(feedback_pb2_grpc.FeedbackServiceServicer):
    """People's judgements. caller: who makes a call, from its context."""

    votes: Votes
    streams: FeedbackStreams
    privacy: Privacy
    caller: Callable[[grpc.aio.ServicerContext], Caller]

    async def GiveFeedback(
        self, request: feedback_pb2.GiveFeedbackRequest, context: grpc.aio.ServicerContext
    ) -> feedback_pb2.GiveFeedbackResponse:
        """Record one judgement durably."""
        return given(await self.votes.give(request, self.caller(context).identified()))

    async def StreamFeedback(
        self,
        request_iterator: AsyncIterator[feedback_pb2.StreamFeedbackRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[feedback_pb2.StreamFeedbackResponse]:
        """Record many people's judgements, message by message."""
        async with contextlib.aclosing(self.streams.results(request_iterator, self.caller(context))) as made:
            async for response in made:
                yield response

    async def RetractFeedback(
        self, request: feedback_pb2.RetractFeedbackRequest, context: grpc.aio.ServicerContext
    ) -> feedback_pb2.RetractFeedbackResponse:
        """Take one of the caller's own judgements back."""
        repeated = await self.votes.retract(request, self.caller(context).identified())
        return feedback_pb2.RetractFeedbackResponse(repeated=repeated)

    async def SetConsent(
        self, request: feedback_pb2.SetConsentRequest, context: grpc.aio.ServicerContext
    ) -> feedback_pb2.SetConsentResponse:
        """Give or withdraw consent."""
        person = self.caller(context).identified()
        repeated = await self.privacy.set_consent(person, request.request_id, request.may_learn)
        return feedback_pb2.SetConsentResponse(repeated=repeated)

    async def ForgetMe(
        self, request: feedback_pb2.ForgetMeRequest, context: grpc.aio.ServicerContext
    ) -> feedback_pb2.ForgetMeResponse:
        """Erase what the caller gave."""
        person = self.caller(context).identified()
        return feedback_pb2.ForgetMeResponse(erasure_id=await self.privacy.forget(person, request.request_id))

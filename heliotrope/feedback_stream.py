"""Judgements of many people over one call, for a product's own server. What comes while serving works goes together.

async with grpc.aio.insecure_channel(PUBLIC) as channel, FeedbackStream(channel) as stream:
    given = await stream.give(user, feedback_request(ticket, thumb(response_id, up=True)))
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import grpc
import grpc.aio

from heliotrope.client import PUBLIC, error_of, explain
from heliotrope.errors import HeliotropeError, Unavailable
from heliotrope.v1 import feedback_pb2, feedback_pb2_grpc

MOST_TOGETHER = 256
"""Judgements of one message, as many as serving takes."""
AHEAD = 2
"""Messages under way at once: one is read while the other is being made durable."""
TOGETHER_SECONDS = 0.003
"""So long a message waits for company: under load fewer, fuller messages cost serving less."""
IDLE_SECONDS = 30.0
"""After so long without a judgement the call is ended; the next one begins another."""

Waiting = asyncio.Future[feedback_pb2.FeedbackResult]


class FeedbackStream:
    """One call at a time, opened when it is needed. Use it on one event loop."""

    def __init__(self, channel: grpc.aio.Channel, address: str = PUBLIC, idle: float = IDLE_SECONDS) -> None:
        self._stub, self._address, self._idle = feedback_pb2_grpc.FeedbackServiceStub(channel), address, idle
        self._waiting: deque[tuple[feedback_pb2.PersonalFeedback, Waiting]] = deque()
        self._sent: deque[list[Waiting]] = deque()
        self._moved = asyncio.Event()
        self._call: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._call:
            self._call.cancel()
            await asyncio.gather(self._call, return_exceptions=True)

    async def give(
        self, user: str, request: feedback_pb2.GiveFeedbackRequest
    ) -> feedback_pb2.GiveFeedbackResponse:
        """Record a person's judgement; durable when it returns. user: 32 hex digits, as in other calls.

        Raises as GiveFeedback does. After Unavailable it may or may not have been recorded: the same request again tells.
        """
        future: Waiting = asyncio.get_running_loop().create_future()
        self._waiting.append((feedback_pb2.PersonalFeedback(user=user, request=request), future))
        self._moved.set()
        if self._call is None or self._call.done():
            self._call = asyncio.create_task(self._talk(), name="feedback stream")
        result = await future
        if result.HasField("refused"):
            raise error_of(result.refused.status, result.refused.message)
        return result.given

    async def _talk(self) -> None:
        """Calls, one after another, until nothing waits any more."""
        while self._waiting:
            try:
                async for response in self._stub.StreamFeedback(self._messages()):
                    self._answered(response)
            except grpc.aio.AioRpcError as error:
                self._sent.append([future for _, future in self._waiting])
                self._waiting.clear()
                self._fail(explain(error, self._address))
            self._fail(Unavailable(f"{self._address} ended the stream of judgements; try again"))

    async def _messages(self) -> AsyncIterator[feedback_pb2.StreamFeedbackRequest]:
        """What waits, as soon as there is room for a message; ends when nothing comes for a while."""
        while True:
            while not self._waiting or len(self._sent) >= AHEAD:
                self._moved.clear()
                try:
                    await asyncio.wait_for(self._moved.wait(), self._idle)
                except TimeoutError:
                    return
            await asyncio.sleep(TOGETHER_SECONDS)
            taken = [self._waiting.popleft() for _ in range(min(MOST_TOGETHER, len(self._waiting)))]
            self._sent.append([future for _, future in taken])
            yield feedback_pb2.StreamFeedbackRequest(feedback=[feedback for feedback, _ in taken])

    def _answered(self, response: feedback_pb2.StreamFeedbackResponse) -> None:
        for future, result in zip(self._sent.popleft(), response.results, strict=True):
            if not future.done():
                future.set_result(result)
        self._moved.set()

    def _fail(self, reason: HeliotropeError) -> None:
        """Tell all whose judgement was sent and not answered."""
        while self._sent:
            for future in self._sent.popleft():
                if not future.done():
                    future.set_exception(reason)

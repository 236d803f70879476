"""Judgements of many people over one call, for a product's own server. What comes while serving works goes together.

    async with grpc.aio.insecure_channel(PRIVATE) as channel, FeedbackStream(channel) as stream:
        given = await stream.give(user, feedback_request(ticket, thumb(response_id, up=True)))

Calls raise one of `heliotrope.errors`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from heliotrope.client import CALL_SECONDS, PRIVATE, error_of, explain
from heliotrope.errors import HeliotropeError, InvalidInput, ResourceExhausted, Unavailable
from heliotrope.v1 import feedback_pb2, feedback_pb2_grpc

MOST_TOGETHER, MOST_BYTES = 256, 1 << 20
"""Judgements of one message, and their bytes."""
MOST_WAITING = 16_384
"""Judgements that wait for their turn."""
AHEAD = 2
"""Messages under way at once: one is read while the other is being made durable."""
TOGETHER_SECONDS = 0.006
"""So long a message waits for company: under load fewer, fuller messages cost serving less."""
IDLE_SECONDS = 30.0
"""After so long without a judgement the call is ended; the next one begins another."""

Told = asyncio.Future[feedback_pb2.FeedbackResult]
Item = tuple[feedback_pb2.PersonalFeedback, Told]


class FeedbackStream:
    """One call at a time, opened when it is needed. Use it on one event loop. seconds: most that one judgement may take."""

    def __init__(
        self, channel: grpc.aio.Channel, address: str = PRIVATE, idle: float = IDLE_SECONDS,
        seconds: float = CALL_SECONDS,
    ) -> None:  # fmt: skip
        self._stub, self._address = feedback_pb2_grpc.FeedbackServiceStub(channel), address
        self._idle, self._seconds = idle, seconds
        self._waiting: deque[Item] = deque()
        self._moved = asyncio.Event()
        self._talking: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        if self._talking:
            self._talking.cancel()
            await asyncio.gather(self._talking, return_exceptions=True)

    async def give(
        self, user: str, request: feedback_pb2.GiveFeedbackRequest
    ) -> feedback_pb2.GiveFeedbackResponse:
        """Record a person's judgement; durable when it returns. user: 32 hex digits, as in other calls.

        Raises as GiveFeedback does. After Unavailable it may or may not have been recorded: the same request again tells.
        """
        told = self._put(feedback_pb2.PersonalFeedback(user=user, request=request))
        try:
            async with asyncio.timeout(self._seconds):
                result = await told
        except TimeoutError:
            if self._talking:
                self._talking.cancel()  # who says nothing for so long is asked anew
            raise Unavailable(
                f"{self._address} did not answer in {self._seconds:g} s; it may be busy: try again"
            ) from None
        if result.HasField("refused"):
            error = error_of(result.refused.status, result.refused.message)
            error.retry_ms = result.refused.retry_after_ms
            raise error
        return result.given

    def _put(self, feedback: feedback_pb2.PersonalFeedback) -> Told:
        if self._closed:
            raise Unavailable("this stream of judgements is closed; open another")
        if (size := feedback.ByteSize()) > MOST_BYTES:
            raise InvalidInput(f"the judgement has {size} bytes; {MOST_BYTES} are the most")
        if len(self._waiting) >= MOST_WAITING:
            raise ResourceExhausted(
                f"{len(self._waiting)} judgements wait for {self._address}; try again in about 1 s"
            )
        told: Told = asyncio.get_running_loop().create_future()
        self._waiting.append((feedback, told))
        self._moved.set()
        if self._talking is None or self._talking.done():
            self._talking = asyncio.create_task(self._talk(), name="feedback stream")
        return told

    async def _talk(self) -> None:
        """Calls, one after another, until nothing waits any more. Nobody is left without an answer."""
        reason: HeliotropeError = Unavailable(
            "the stream of judgements was closed; this one may or may not be recorded"
        )
        try:
            while self._waiting:
                await self._call()
        except grpc.aio.AioRpcError as error:
            reason = explain(error, self._address)
        finally:
            _fail([told for _, told in self._waiting], reason)
            self._waiting.clear()

    async def _call(self) -> None:
        """One call, to its end. Raises AioRpcError."""
        call, sent = self._stub.StreamFeedback(), deque[list[Told]]()
        writing = asyncio.create_task(self._write(call, sent))
        try:
            while isinstance(response := await call.read(), feedback_pb2.StreamFeedbackResponse):
                for told, result in zip(sent.popleft(), response.results, strict=True):
                    if not told.done():
                        told.set_result(result)
                self._moved.set()
        finally:
            writing.cancel()
            call.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            ended = Unavailable(f"{self._address} ended the stream of judgements; try again")
            _fail([told for message in sent for told in message], ended)

    async def _write(self, call: Any, sent: deque[list[Told]]) -> None:
        """Send what waits, as soon as there is room for a message; end the call when nothing comes for a while."""
        while True:
            while not self._waiting or len(sent) >= AHEAD:
                self._moved.clear()
                try:
                    async with asyncio.timeout(self._idle):
                        await self._moved.wait()
                except TimeoutError:
                    await call.done_writing()
                    return
            await asyncio.sleep(TOGETHER_SECONDS)
            if taken := self._take():
                sent.append([told for _, told in taken])
                await call.write(feedback_pb2.StreamFeedbackRequest(feedback=[one for one, _ in taken]))

    def _take(self) -> list[Item]:
        """The judgements of the next message; nobody waits any more for those that are left out."""
        taken, size = list[Item](), 0
        while self._waiting and len(taken) < MOST_TOGETHER:
            size += self._waiting[0][0].ByteSize()
            if taken and size > MOST_BYTES:
                break
            item = self._waiting.popleft()
            if not item[1].done():
                taken.append(item)
        return taken


def _fail(waiting: list[Told], reason: HeliotropeError) -> None:
    for told in waiting:
        if not told.done():
            told.set_exception(reason)

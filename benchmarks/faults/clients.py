"""People who chat and judge through the real API, one request at a time each, and write down what they were told.

Whoever gets no answer asks again with the same request_id until there is one, as a client should.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import grpc

from benchmarks.faults.history import CHAT, RETRACT, VOTE, History, Outcome
from heliotrope.v1 import chat_pb2, chat_pb2_grpc, feedback_pb2, feedback_pb2_grpc

CALL_SECONDS = 4.0
AGAIN_SECONDS = 0.02
CHOICES = (feedback_pb2.CHOICE_A, feedback_pb2.CHOICE_B, feedback_pb2.CHOICE_TIE)
REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}  # fmt: skip
"""Answers that promise that nothing was recorded."""
CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200), ("grpc.enable_retries", 0),
]  # fmt: skip


@dataclass(frozen=True)
class Talk:
    """A chat that can be judged."""

    conversation: str
    ticket: str
    responses: tuple[str, ...]


@dataclass
class Person:
    """One sequential client. pause: seconds between two requests, on average."""

    name: str
    channel: grpc.aio.Channel
    history: History
    rng: random.Random
    pause: float
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    talk: Talk | None = None
    given: list[str] = field(default_factory=list)
    requests: int = 0

    def __post_init__(self) -> None:
        self._chats = chat_pb2_grpc.ChatServiceStub(self.channel)
        self._votes = feedback_pb2_grpc.FeedbackServiceStub(self.channel)
        self._who = (("x-heliotrope-user", f"{self.rng.getrandbits(128):032x}"),)

    async def live(self) -> None:
        """Chat, judge, change one's mind, take back, repeat oneself, until told to stop."""
        while not self.stopping.is_set():
            if self.talk is None or self.rng.random() < 0.15:
                await self._chat()
            elif self.given and self.rng.random() < 0.1:
                await self._take_back(self.rng.choice(self.given))
            else:
                await self._judge(self.talk)
            await asyncio.sleep(self.rng.expovariate(1 / self.pause))

    def _request(self) -> str:
        self.requests += 1
        return f"{self.name}-{self.requests}"

    async def _chat(self) -> None:
        wish = chat_pb2.COMPARISON_WISH_ON if self.rng.random() < 0.5 else chat_pb2.COMPARISON_WISH_OFF
        request = chat_pb2.ChatRequest(request_id=self._request(), message="hello", comparison=wish)
        number = self.history.invoke(self.name, CHAT, request.request_id)
        started = None
        try:
            call = self._chats.Chat(request, metadata=self._who, timeout=CALL_SECONDS, wait_for_ready=True)
            async for chunk in call:
                started = chunk.started if chunk.HasField("started") else started
        except grpc.aio.AioRpcError as error:
            self.history.end(number, _outcome(error), why=_why(error))
            return
        if started is None or not started.feedback_ticket:
            self.history.end(number, "fail", why="not logged: the answer came without a ticket")
            return
        self.talk = Talk(
            started.conversation_id, started.feedback_ticket, tuple(a.response_id for a in started.answers)
        )
        self.given = []
        self.history.end(number, "ok", self.talk.responses)

    async def _judge(self, talk: Talk) -> None:
        made = feedback_pb2.Feedback(comment=(name := self._request()))
        subject = tuple(sorted(talk.responses))
        if len(talk.responses) == 2:
            made.comparison.choice = self.rng.choice(CHOICES)
        else:
            made.thumb.response_id, made.thumb.up = talk.responses[0], self.rng.random() < 0.5
        request = feedback_pb2.GiveFeedbackRequest(
            request_id=name, feedback_tickets=[talk.ticket], feedback=made
        )
        times = 2 if self.rng.random() < 0.05 else 1  # some press twice
        for _ in range(times):
            told = await self._until_known(VOTE, name, subject, lambda: self._give(request))
            if told and told[0] not in self.given:
                self.given.append(told[0])

    async def _give(self, request: feedback_pb2.GiveFeedbackRequest) -> tuple[str, ...]:
        answer = await self._votes.GiveFeedback(
            request, metadata=self._who, timeout=CALL_SECONDS, wait_for_ready=True
        )
        return (answer.feedback_id,)

    async def _take_back(self, given: str) -> None:
        self.given.remove(given)
        request = feedback_pb2.RetractFeedbackRequest(request_id=self._request(), feedback_id=given)

        async def retract() -> tuple[str, ...]:
            await self._votes.RetractFeedback(
                request, metadata=self._who, timeout=CALL_SECONDS, wait_for_ready=True
            )
            return (given,)

        await self._until_known(RETRACT, request.request_id, (given,), retract)

    async def _until_known(
        self, what: str, name: str, subject: tuple[str, ...], call: Callable[[], Awaitable[tuple[str, ...]]]
    ) -> tuple[str, ...]:
        """What an acknowledged request was told; empty for a refused one. Asks again while nobody knows."""
        key = self.talk.conversation if self.talk else ""
        while True:
            number = self.history.invoke(self.name, what, name, subject, key)
            try:
                told = await call()
            except grpc.aio.AioRpcError as error:
                outcome = _outcome(error)
                self.history.end(number, outcome, why=_why(error))
                if outcome == "fail" or self.stopping.is_set():
                    return ()
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            self.history.end(number, "ok", told)
            return told


def _outcome(error: grpc.aio.AioRpcError) -> Outcome:
    return "fail" if error.code() in REFUSED else "unknown"


def _why(error: grpc.aio.AioRpcError) -> str:
    return f"{error.code().name}: {(error.details() or '')[:120]}"

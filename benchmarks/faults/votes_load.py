"""An open loop of votes: each leaves at its time, whatever became of those before, and its latency counts from then."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import psutil

from benchmarks.faults.clients import Talk
from heliotrope.errors import HeliotropeError
from heliotrope.feedback_stream import FeedbackStream
from heliotrope.v1 import chat_pb2, chat_pb2_grpc, feedback_pb2, feedback_pb2_grpc

CALL_SECONDS = 30.0
CHANNELS = 2
TICK = 0.001
WARM_SECONDS = 3.0
LOOK_SECONDS = 0.5
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


Give = Callable[[int, feedback_pb2.GiveFeedbackRequest, int], Awaitable[str]]
"""Sends the vote of a number from the person of a place; the event's id. Raises AioRpcError or HeliotropeError."""


@dataclass(frozen=True)
class Load:
    """What to send where. serving: its process id. rate: votes a second. talks: chats that are judged, in turns. streamed: by one
    call, as a product's own server does, not by a call each."""

    address: str
    serving: int
    rate: float
    seconds: float
    talks: int
    streamed: bool = False


@dataclass(frozen=True)
class Sent:
    """What came of it. acknowledged: event id by request. latencies: of acknowledged votes, milliseconds from the
    scheduled time. late: the driver's own worst delay in sending, milliseconds. driver_cpu, serving_cpu: seconds of
    processor. rss, most_rss: serving's resident memory before the first vote and at most, bytes."""

    acknowledged: dict[str, str]
    latencies: list[float]
    failed: dict[str, int]
    late: float
    seconds: float
    driver_cpu: float
    serving_cpu: float
    rss: int
    most_rss: int


def drive(load: Load, output: Path) -> None:
    """Run the load in this process and write `Sent` as JSON."""
    output.write_text(json.dumps(asdict(asyncio.run(_drive(load)))))


async def _drive(load: Load) -> Sent:
    if load.streamed:
        return await _drive_stream(load)
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(load.address, options=OWN_CONNECTION))
            for _ in range(CHANNELS)
        ]
        talks = await _talks(channels[0], load.talks)
        stubs = [feedback_pb2_grpc.FeedbackServiceStub(channel) for channel in channels]

        async def give(number: int, request: feedback_pb2.GiveFeedbackRequest, place: int) -> str:
            stub = stubs[number % CHANNELS]
            answer = await stub.GiveFeedback(request, metadata=identity(place), timeout=CALL_SECONDS)
            return answer.feedback_id

        return await measure(load, talks, give)


async def _drive_stream(load: Load) -> Sent:
    async with (
        grpc.aio.insecure_channel(load.address) as channel,
        FeedbackStream(channel, load.address) as stream,
    ):
        talks = await _talks(channel, load.talks)

        async def give(number: int, request: feedback_pb2.GiveFeedbackRequest, place: int) -> str:
            return (await stream.give(user_of(place), request)).feedback_id

        return await measure(load, talks, give)


async def measure(load: Load, talks: Sequence[Talk], give: Give) -> Sent:
    """Warm up, then send the load."""
    warm = Driver(load.rate, talks, give, "w")
    await warm.run(WARM_SECONDS)
    driver, serving = Driver(load.rate, talks, give, "v"), psutil.Process(load.serving)
    rss, spent, driver_spent = serving.memory_info().rss, _cpu(serving), time.process_time()
    began, watch = time.monotonic(), asyncio.create_task(_most_rss(serving))
    await driver.run(load.seconds)
    took = time.monotonic() - began
    watch.cancel()
    return Sent(
        warm.acknowledged | driver.acknowledged, driver.latencies, driver.failed, driver.late * 1e3, took,
        time.process_time() - driver_spent, _cpu(serving) - spent, rss,
        max(await watch, serving.memory_info().rss),
    )  # fmt: skip


async def _most_rss(process: psutil.Process) -> int:
    """The largest resident memory until cancelled."""
    most = 0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(LOOK_SECONDS)
    return most


def _cpu(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


class Driver:
    """Sends votes at a rate. name: makes its request ids its own."""

    def __init__(self, rate: float, talks: Sequence[Talk], give: Give, name: str) -> None:
        self.acknowledged: dict[str, str] = {}
        self.latencies: list[float] = []
        self.failed: dict[str, int] = {}
        self.late = 0.0
        self._rate, self._talks, self._give, self._name = rate, talks, give, name
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Send for so long, then wait for every answer."""
        start, number = time.monotonic() + TICK, 0
        total = int(self._rate * seconds)
        while number < total:
            now = time.monotonic()
            while number < total and (due := start + number / self._rate) <= now:
                self.late = max(self.late, now - due)
                task = asyncio.create_task(self._vote(number, due))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                number += 1
            await asyncio.sleep(TICK)
        await asyncio.gather(*self._under_way)

    async def _vote(self, number: int, due: float) -> None:
        place = number % len(self._talks)
        talk, name = self._talks[place], f"{self._name}{number}"
        made = feedback_pb2.Feedback(comment=name)
        made.thumb.response_id, made.thumb.up = talk.responses[0], number % 3 > 0
        request = feedback_pb2.GiveFeedbackRequest(
            request_id=name, feedback_tickets=[talk.ticket], feedback=made
        )
        try:
            told = await self._give(number, request, place)
        except (grpc.aio.AioRpcError, HeliotropeError) as error:
            why = str(error)[:120]
            self.failed[why] = self.failed.get(why, 0) + 1
            return
        self.latencies.append((time.monotonic() - due) * 1e3)
        self.acknowledged[name] = told


def identity(place: int) -> tuple[tuple[str, str], ...]:
    """The metadata of the person who had chat number `place`."""
    return (("x-heliotrope-user", user_of(place)),)


def user_of(place: int) -> str:
    """Who had chat number `place`."""
    return f"{place:032x}"


async def _talks(channel: grpc.aio.Channel, count: int) -> list[Talk]:
    chats = chat_pb2_grpc.ChatServiceStub(channel)
    return [await _talk(chats, place) for place in range(count)]


async def _talk(chats: chat_pb2_grpc.ChatServiceStub, place: int) -> Talk:
    request = chat_pb2.ChatRequest(
        request_id=f"c{place}", message="hello", comparison=chat_pb2.COMPARISON_WISH_OFF
    )
    started = chat_pb2.ChatStarted()
    async for chunk in chats.Chat(request, metadata=identity(place)):
        started = chunk.started if chunk.HasField("started") else started
    return Talk(
        started.conversation_id, started.feedback_ticket, tuple(a.response_id for a in started.answers)
    )

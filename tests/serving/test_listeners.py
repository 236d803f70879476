"""A listener answers a bounded number of calls at once, and says when to come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.children import free_ports
from serving.interceptor import Gate
from serving.listeners import PUBLIC_BYTES, Listener
from tests.serving.running import fails
from tests.waiting import until_async


class Slow:
    """Answers only when told."""

    def __init__(self) -> None:
        self.asked, self.open, self.answer = 0, 0, asyncio.Event()

    async def wait(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.asked += 1
        await self.answer.wait()
        return request

    async def stream(self, request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        self.open += 1
        try:
            yield request
            await self.answer.wait()
        finally:
            self.open -= 1


@pytest.fixture
async def channel() -> AsyncIterator[tuple[grpc.aio.Channel, Slow]]:
    """To a listener that answers two calls at once."""
    slow, address = Slow(), f"127.0.0.1:{free_ports(1)[0]}"
    listener = Listener(Gate(), PUBLIC_BYTES, max_calls=2)
    handlers = {
        "Wait": grpc.unary_unary_rpc_method_handler(slow.wait, bytes, bytes),
        "Stream": grpc.unary_stream_rpc_method_handler(slow.stream, bytes, bytes),
    }
    listener.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Slow", handlers)])
    await listener.start(address)
    async with grpc.aio.insecure_channel(address) as channel:
        yield channel, slow
    await listener.server.stop(0)


async def test_one_call_too_many_is_refused_with_a_remedy_and_taken_later(
    channel: tuple[grpc.aio.Channel, Slow],
) -> None:
    ask, slow = channel[0].unary_unary("/test.Slow/Wait"), channel[1]
    first = [asyncio.ensure_future(ask(b"hello")) for _ in range(2)]
    await until_async(lambda: slow.asked == 2)
    async with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "2 calls", "try again in about 1 s"):
        await ask(b"too many")
    slow.answer.set()
    assert await asyncio.gather(*first) == [b"hello"] * 2
    assert await ask(b"again") == b"again"


async def test_a_stream_holds_its_seat_until_its_caller_leaves(
    channel: tuple[grpc.aio.Channel, Slow],
) -> None:
    ask, slow = channel[0].unary_stream("/test.Slow/Stream"), channel[1]
    held = [ask(b"hello") for _ in range(2)]
    assert [await call.read() for call in held] == [b"hello"] * 2
    async with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "2 calls"):
        await ask(b"too many").read()
    held[0].cancel()
    await until_async(lambda: slow.open == 1)
    again = ask(b"again")
    assert await again.read() == b"again"
    slow.answer.set()


async def test_health_is_told_while_all_seats_are_taken(channel: tuple[grpc.aio.Channel, Slow]) -> None:
    ask, slow = channel[0].unary_unary("/test.Slow/Wait"), channel[1]
    first = [asyncio.ensure_future(ask(b"hello")) for _ in range(2)]
    await until_async(lambda: slow.asked == 2)
    told = await health_pb2_grpc.HealthStub(channel[0]).Check(health_pb2.HealthCheckRequest())
    assert told.status == health_pb2.HealthCheckResponse.SERVING
    slow.answer.set()
    await asyncio.gather(*first)

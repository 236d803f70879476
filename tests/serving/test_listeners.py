"""A listener answers a bounded number of calls at once."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.interceptor import Gate
from serving.listeners import PUBLIC_BYTES, Listener
from tests.serving.running import fails, free_ports


async def test_one_call_more_than_the_listener_takes_is_refused_at_once() -> None:
    listener, address = Listener(Gate(), PUBLIC_BYTES, max_calls=2), f"127.0.0.1:{free_ports(1)[0]}"
    await listener.start(address)
    async with grpc.aio.insecure_channel(address) as channel:
        health, asked = health_pb2_grpc.HealthStub(channel), health_pb2.HealthCheckRequest()
        watching = [health.Watch(asked), health.Watch(asked)]
        assert [(await call.read()).status for call in watching] == [
            health_pb2.HealthCheckResponse.SERVING
        ] * 2
        async with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "limit"):
            await health.Check(asked)
        for call in watching:
            call.cancel()
    await listener.server.stop(0)

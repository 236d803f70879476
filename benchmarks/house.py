"""A whole serving process for a measurement: real vLLM, real sockets and a real log, in a folder that is thrown away."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from deploy.children import free_ports
from heliotrope.config import Config, load
from heliotrope.v1 import chat_pb2_grpc, sampler_pb2_grpc
from serving.build import build
from serving.server import Server, settle_heap


@dataclass(frozen=True)
class House:
    """A running server with a channel to each of its listeners."""

    config: Config
    server: Server
    public: grpc.aio.Channel
    private: grpc.aio.Channel

    @property
    def chats(self) -> chat_pb2_grpc.ChatServiceStub:
        """Chat as people reach it."""
        return chat_pb2_grpc.ChatServiceStub(self.public)

    @property
    def samples(self) -> sampler_pb2_grpc.SamplerServiceStub:
        """Samples as the learner draws them."""
        return sampler_pb2_grpc.SamplerServiceStub(self.private)


@contextlib.asynccontextmanager
async def house(overrides: Sequence[str] = ()) -> AsyncIterator[House]:
    """Start serving on free ports in this process; drained and stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="heliotrope-") as folder:
        ports = dict(zip(("public_port", "private_port", "http_port"), free_ports(3), strict=True))
        sets = [f"paths.state={Path(folder) / 'state'}", "comparisons.share=0"]
        config = load(None, [*sets, *(f"serving.{k}={p}" for k, p in ports.items()), *overrides])
        server = build(config)
        try:
            await server.start()
            settle_heap()
            async with (
                grpc.aio.insecure_channel(config.serving.public_address) as public,
                grpc.aio.insecure_channel(config.serving.private_address) as private,
            ):
                yield House(config, server, public, private)
            await server.drain()
        finally:
            await server.close()

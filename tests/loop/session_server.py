"""A whole server on the session's engine, which it may use and neither start nor stop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from heliotrope.config import Config
from serving.build import build
from serving.engine_vllm import VllmEngine
from tests.serving.running import World


class Borrowed:
    """The session's engine, which a server may use and neither start nor stop."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def start(self) -> None:
        """It runs."""

    async def stop(self) -> None:
        """It runs on."""


@asynccontextmanager
async def serving(config: Config, engine: VllmEngine) -> AsyncIterator[World]:
    """Start, hand over, drain, stop."""
    server = build(config, engine=Borrowed(engine))  # pyright: ignore[reportArgumentType]
    try:
        await server.start()
        async with (
            grpc.aio.insecure_channel(config.serving.public_address) as public,
            grpc.aio.insecure_channel(config.serving.private_address) as private,
        ):
            yield World(config, engine, server, public, private)  # pyright: ignore[reportArgumentType]
        await server.drain()
    finally:
        await server.close()

"""Waits until what serving has committed is at the broker and in the learner's file."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time

import grpc

from feedback.log import EXCHANGES, FEEDBACK
from feedback.open import open_reader
from heliotrope.config import Config
from heliotrope.errors import HeliotropeError
from heliotrope.v1 import admin_pb2, admin_pb2_grpc

SECONDS = 60.0
LOOK_SECONDS = 0.25


async def settle(config: Config, *, learns: bool) -> bool:
    """Whether all came through in time. learns: whether there is a learner."""
    end = time.monotonic() + SECONDS
    async with grpc.aio.insecure_channel(config.serving.private_address) as channel:
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        while await _depth(admin) != 0:
            if time.monotonic() > end:
                return False
            await asyncio.sleep(LOOK_SECONDS)
    while learns and not await asyncio.to_thread(_learned, config):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(LOOK_SECONDS)
    return True


async def _depth(admin: admin_pb2_grpc.AdminServiceStub) -> int:
    """Events that wait for the broker; -1 while nobody knows."""
    try:
        status = await admin.GetStatus(admin_pb2.GetStatusRequest(), timeout=5, wait_for_ready=True)
    except grpc.aio.AioRpcError:
        return -1
    return status.outbox.depth


def _learned(config: Config) -> bool:
    """Whether the learner has read to the end of the log."""
    log = open_reader(config)
    try:
        ends = log.end(EXCHANGES) | log.end(FEEDBACK)
    except HeliotropeError:
        return False
    finally:
        log.close()
    positions = _positions(config)
    return all(positions.get(place, 0) >= end for place, end in ends.items())


def _positions(config: Config) -> dict[str, int]:
    with contextlib.suppress(sqlite3.Error):
        file = sqlite3.connect(f"{config.paths.training_set.resolve().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(file):
            return dict(file.execute("SELECT place, offset FROM positions"))
    return {}

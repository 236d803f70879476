"""Votes at a steady rate while the broker is away, then the backlog's way to it once it is back."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from statistics import quantiles

import grpc

from benchmarks.faults.checker import Report, check
from benchmarks.faults.history import VOTE, Attempt
from benchmarks.faults.house import House, fork
from benchmarks.faults.stores import read_stores
from benchmarks.faults.votes_load import Load, drive
from heliotrope.v1 import admin_pb2, admin_pb2_grpc

TALKS = 800
"""Chats that are judged: keys of the log, of each of which one event is on its way at a time."""
DRAIN_SECONDS = 300.0
LOOK_SECONDS = 0.5
MIB = 1 << 20


async def measure(house: House, rate: float, seconds: float, streamed: bool = False) -> dict[str, object]:
    """The figures of one load in a house of its own: its broker is killed first, and started again at the end."""
    assert house.broker
    house.broker.kill()
    serving, at = house.serving(), house.config.serving
    try:
        async with grpc.aio.insecure_channel(at.private_address) as channel:
            admin = admin_pb2_grpc.AdminServiceStub(channel)
            await _outbox(admin)
            sent = await _sent(
                house,
                Load(
                    at.private_address if streamed else at.public_target,
                    serving.process.pid or 0,
                    rate,
                    seconds,
                    TALKS,
                    streamed,
                ),
            )
            waiting = (await _outbox(admin)).depth
            drained = await _drained(house, admin)
        await serving.stop()
        report = await asyncio.to_thread(_check, house, sent["acknowledged"])
    finally:
        serving.kill()
        house.close()
    complaints = {name: len(getattr(report, name)) for name in ("lost", "duplicated", "damaged")}
    drain = {"backlog": waiting, "drain_seconds": round(drained, 1), "drain_per_s": round(waiting / drained)}
    return figures(sent) | drain | complaints


async def measure_calls(house: House, rate: float, seconds: float) -> dict[str, object]:
    """The same load given to `Votes.give` within serving: what a vote costs without gRPC and its client."""
    assert house.broker
    house.broker.kill()
    output = house.folder / "sent.json"
    program = house.calls(Load("", 0, rate, seconds, TALKS), output)
    while program.alive:
        await asyncio.sleep(LOOK_SECONDS)
    sent = json.loads(output.read_text())
    found = read_stores(house.config, broker=False)
    return figures(sent) | {"lost": len(check(_attempts(sent["acknowledged"]), found).lost)}


def figures(sent: Mapping) -> dict[str, object]:
    """Latencies in milliseconds from the scheduled time, votes acknowledged a second, and what it took."""
    cuts = quantiles(sent["latencies"], n=1000) if len(sent["latencies"]) > 1 else [0.0] * 999
    return {
        "ack_p50_ms": round(cuts[499], 2), "ack_p99_ms": round(cuts[989], 2),
        "ack_max_ms": round(max(sent["latencies"], default=0.0), 1),
        "votes_per_s": round(len(sent["latencies"]) / sent["seconds"]), "votes": len(sent["latencies"]),
        "failed": sent["failed"], "rss_growth_mb": round((sent["most_rss"] - sent["rss"]) / MIB, 1),
        "driver_cpu": round(sent["driver_cpu"] / sent["seconds"], 2),
        "serving_cpu": round(sent["serving_cpu"] / sent["seconds"], 2), "driver_late_ms": round(sent["late"], 1),
    }  # fmt: skip


async def _sent(house: House, load: Load) -> dict:
    output = house.folder / "sent.json"
    driver = fork(drive, load, output)
    while driver.is_alive():
        await asyncio.sleep(LOOK_SECONDS)
    return json.loads(output.read_text())


async def _outbox(admin: admin_pb2_grpc.AdminServiceStub) -> admin_pb2.OutboxStatus:
    """How the outbox is, once serving answers."""
    return (await admin.GetStatus(admin_pb2.GetStatusRequest(), timeout=60, wait_for_ready=True)).outbox


async def _drained(house: House, admin: admin_pb2_grpc.AdminServiceStub) -> float:
    """Seconds from the broker's start until nothing waits; infinite when that does not come about."""
    assert house.broker
    house.broker.start()
    began = time.monotonic()
    while (taken := time.monotonic() - began) < DRAIN_SECONDS:
        if not (waiting := (await _outbox(admin)).depth):
            return taken
        print(f"{waiting} events wait for the broker", file=sys.stderr, flush=True)
        await asyncio.sleep(LOOK_SECONDS)
    return float("inf")


def _check(house: House, acknowledged: Mapping[str, str]) -> Report:
    """Whether all that was acknowledged is there once; votes overlapped, so that no order among them was promised."""
    return check(_attempts(acknowledged), read_stores(house.config))


def _attempts(acknowledged: Mapping[str, str]) -> list[Attempt]:
    after = len(acknowledged) + 1
    return [
        Attempt("load", VOTE, name, (), number, "", after, "ok", (event_id,))
        for number, (name, event_id) in enumerate(acknowledged.items(), 1)
    ]

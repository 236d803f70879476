"""Nothing that a request says kills the engine: `python -m benchmarks.fuzz`; JSON last, exit 1 when a promise is broken.

Fuzzed Chat requests against a real serving process with a real engine, over gRPC. Promised: the engine never dies, every
status is one that docs/api.md lists for Chat, and a second after the last caller has gone every slot is free.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import grpc

from benchmarks.fuzz_requests import Case, case
from heliotrope.v1 import admin_pb2, admin_pb2_grpc

DOCUMENTED = frozenset(
    [
        "OK",
        "INVALID_ARGUMENT",
        "PERMISSION_DENIED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "RESOURCE_EXHAUSTED",
        "CANCELLED",
        "DEADLINE_EXCEEDED",
    ]
)
"""What Chat may answer while the engine lives and serving does not drain; the last two are the caller's own doing."""
METHOD = "/heliotrope.v1.ChatService/Chat"
IDLE_SECONDS = 1.0


@dataclass
class Found:
    """What came of it. undocumented: the first answers that nobody promised; to_idle: seconds until every slot was free."""

    statuses: Counter[str] = field(default_factory=Counter)
    undocumented: list[str] = field(default_factory=list)
    tokens: int = 0
    engine_deaths: int = 0
    to_idle: float = float("inf")

    @property
    def kept(self) -> bool:
        """Whether every promise was."""
        return not self.undocumented and not self.engine_deaths and self.to_idle <= IDLE_SECONDS


async def fuzz(
    public: grpc.aio.Channel, private: grpc.aio.Channel, requests: int, seed: int, streams: int
) -> Found:
    """Send so many requests, `streams` at once."""
    found, random = Found(), Random(seed)
    chats = [channel.unary_stream(METHOD) for channel in (public, private)]
    admin = admin_pb2_grpc.AdminServiceStub(private)
    before = (await admin.GetStatus(admin_pb2.GetStatusRequest())).engine_restarts
    left = iter(range(requests))

    async def caller() -> None:
        for number in left:
            one = case(random)
            status, detail = await ask(chats[one.private], one)
            found.statuses[status] += 1
            if status not in DOCUMENTED and len(found.undocumented) < 20:
                found.undocumented.append(f"request {number}: {status}: {detail}")
            if number % 500 == 499:
                print(f"fuzz: {number + 1} of {requests}", file=sys.stderr, flush=True)

    await asyncio.gather(*(caller() for _ in range(streams)))
    found.to_idle = await idle(admin)
    status = await admin.GetStatus(admin_pb2.GetStatusRequest())
    found.engine_deaths = status.engine_restarts - before + (not status.engine_available)
    return found


async def ask(chat: grpc.aio.UnaryStreamMultiCallable, one: Case) -> tuple[str, str]:
    """Send one request, read as far as it says; the name of the status and its message."""
    call = chat(one.body, metadata=one.metadata, timeout=one.deadline)
    try:
        chunks = 0
        while one.cancel_after is None or chunks < one.cancel_after:
            if await call.read() is grpc.aio.EOF:  # pyright: ignore[reportAttributeAccessIssue]
                return "OK", ""
            chunks += 1
        call.cancel()
        return "CANCELLED", ""
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or ""


async def idle(admin: admin_pb2_grpc.AdminServiceStub) -> float:
    """Seconds until nothing is in flight and no slot is in use; infinite after ten."""
    began = time.monotonic()
    while time.monotonic() - began < 10 * IDLE_SECONDS:
        status = await admin.GetStatus(admin_pb2.GetStatusRequest())
        if not status.in_flight and not any(slot.in_flight for slot in status.slots):
            return time.monotonic() - began
        await asyncio.sleep(0.02)
    return float("inf")


async def run(requests: int, seed: int, streams: int) -> Found:
    """Against a serving process of its own."""
    from benchmarks.serving_process import serving_process

    async with (
        serving_process() as (public, private),
        grpc.aio.insecure_channel(public) as people,
        grpc.aio.insecure_channel(private) as operators,
    ):
        return await fuzz(people, operators, requests, seed, streams)


def main() -> int:
    """The command line; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of the requests")
    parser.add_argument("--streams", type=int, default=32, help="requests at once")
    asked = parser.parse_args()
    began = time.monotonic()
    found = asyncio.run(run(asked.requests, asked.seed, asked.streams))
    told = {
        "requests": found.statuses.total(), "seed": asked.seed, "statuses": dict(sorted(found.statuses.items())),
        "undocumented": found.undocumented, "engine_deaths": found.engine_deaths,
        "seconds_to_idle": round(found.to_idle, 3), "kept": found.kept, "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    print(json.dumps(told))
    return 0 if found.kept else 1


if __name__ == "__main__":
    sys.exit(main())

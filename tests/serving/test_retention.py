"""Retention never takes what a served version's lineage needs without saying so, on the embedded log and over a broker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from heliotrope.v1 import admin_pb2
from tests.feedback.broker import LocalBroker, local
from tests.serving.running import ALICE, World, running
from tests.serving.test_store_verbs import lineage, publish, thumb
from tests.waiting import until_async

MONTHS = 100 * 86_400.0
SHORTEST = [
    "retention.quarantine_days=0.000001",
    "retention.pending_days=0.000001",
    "outbox.keep_days=0.000001",
]


@pytest.fixture
def broker() -> Iterator[LocalBroker]:
    made = local()
    made.start()
    yield made
    made.kill()


def with_kafka(broker: LocalBroker) -> list[str]:
    return ["log.kind=kafka", f"kafka.bootstrap_servers=127.0.0.1:{broker.port}", "kafka.timeout_seconds=2",
            "kafka.partitions=2", "rollout.mode=manual"]  # fmt: skip


async def replay(world: World) -> admin_pb2.ReplayResponse:
    return await world.admin.Replay(admin_pb2.ReplayRequest())


async def relayed(world: World) -> None:
    async def empty() -> bool:
        return (await world.admin.GetStatus(admin_pb2.GetStatusRequest(), metadata=ALICE)).outbox.depth == 0

    await until_async(empty, 30)


async def test_the_embedded_log_keeps_all_under_the_shortest_retention(tmp_path: Path) -> None:
    async with running(tmp_path / "state", "rollout.mode=manual", *SHORTEST) as world:
        votes = [await thumb(world) for _ in range(3)]
        name = publish(world, tmp_path)
        done = await replay(world)
        assert done.agree and done.held_only_here == 0
    async with running(tmp_path / "state", "rollout.mode=manual", *SHORTEST) as world:
        found = await lineage(world, name)
        assert sorted(event["event"] for event in found["events"]) == sorted(votes)
        assert (found["no_longer_kept"], found["erased"]) == (0, 0)


def prune(world: World) -> int:
    """As if all had been relayed months ago."""
    relay = world.server.services.admin.relay
    assert relay is not None
    relay.outbox.clock = lambda: time.time() + MONTHS
    return relay.outbox.prune()


async def made_anew(world: World, broker: LocalBroker) -> admin_pb2.ReplayResponse:
    """The broker forgets all; what a replay says once it answers again."""
    broker.kill()
    broker.start()

    async def answered() -> admin_pb2.ReplayResponse | None:
        try:
            return await replay(world)
        except grpc.aio.AioRpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            return None

    return await until_async(answered, 60)  # pyright: ignore[reportReturnType]


async def test_what_a_broker_forgot_stays_where_a_version_needs_it_and_is_named_where_nothing_has_it(
    tmp_path: Path, broker: LocalBroker
) -> None:
    async with running(tmp_path / "state", *with_kafka(broker)) as world:
        votes = [await thumb(world) for _ in range(2)]
        await relayed(world)
        name = publish(world, tmp_path)
        assert (await replay(world)).agree
        assert prune(world) > 0
        done = await made_anew(world, broker)
        assert (done.agree, done.held_only_here, done.versions[0].missing) == (False, 2, 2)
        assert "was the log cut" in done.versions[0].note
        assert (await lineage(world, name))["no_longer_kept"] == 0, "the store was left as it was"
        derived = world.config.paths.read_models
    derived.unlink()
    async with running(tmp_path / "state", *with_kafka(broker)) as world:
        found = await lineage(world, name)
        assert [event["at"] for event in found["events"]] == ["no longer kept"] * 2
        assert found["no_longer_kept"] == 2 and sorted(e["event"] for e in found["events"]) == sorted(votes)

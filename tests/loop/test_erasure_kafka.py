"""The same erasure over a broker, with serving's own file pruned: what it held is in no topic, no row and no byte."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition  # pyright: ignore[reportAttributeAccessIssue]

from feedback.log import TOPICS
from feedback.sealing import Key, key_id, open_
from heliotrope.identity import pseudonym
from heliotrope.v1 import admin_pb2, feedback_pb2, privacy_pb2
from heliotrope.v1.events_pb2 import Event
from learner.erasure import heed
from tests.feedback.broker import LocalBroker, local
from tests.learner.test_loop import model  # noqa: F401  a fixture
from tests.loop.canary import OTHERS, key_of, learn, learner, talk, wanted, world_of
from tests.loop.traces_of import in_files, in_rows
from tests.serving.running import ALICE, World
from tests.waiting import until_async

pytestmark = pytest.mark.slow
MONTHS = 100 * 86_400.0


@pytest.fixture
def broker() -> Iterator[LocalBroker]:
    made = local()
    made.start()
    yield made
    made.kill()


def overrides(broker: LocalBroker) -> list[str]:
    return ["log.kind=kafka", f"kafka.bootstrap_servers=127.0.0.1:{broker.port}", "kafka.timeout_seconds=10",
            "kafka.partitions=2"]  # fmt: skip


async def relayed(world: World) -> None:
    """Wait until the broker has everything."""

    async def empty() -> bool:
        return (await world.admin.GetStatus(admin_pb2.GetStatusRequest(), metadata=ALICE)).outbox.depth == 0

    await until_async(empty, 60)


def in_topics(broker: LocalBroker) -> list[tuple[bytes, bytes]]:
    """Every record of every topic, those of the dead letters too: the value, and key and headers."""
    consumer = KafkaConsumer(bootstrap_servers=f"127.0.0.1:{broker.port}", auto_offset_reset="earliest",
                             consumer_timeout_ms=3_000)  # fmt: skip
    names = [f"{topic}{suffix}" for topic in TOPICS for suffix in ("", ".dlq")]
    assert set(names) <= consumer.topics()
    consumer.assign([TopicPartition(n, p) for n in names for p in consumer.partitions_for_topic(n) or ()])
    found = [(r.value or b"", (r.key or b"") + b"".join(value for _, value in r.headers)) for r in consumer]
    consumer.close()
    return found


def prune(world: World) -> int:
    """As if everything had been relayed months ago."""
    relay = world.server.services.admin.relay
    assert relay is not None
    relay.outbox.clock = lambda: time.time() + MONTHS
    return relay.outbox.prune()


async def exported(world: World) -> int:
    request = admin_pb2.ExportRequest(format="dpo")
    return sum([part.rows async for part in world.admin.Export(request)])


async def test_an_erased_person_is_in_no_record_of_the_broker(
    model: Path,  # noqa: F811
    tmp_path: Path,
    broker: LocalBroker,
) -> None:
    state, loop = tmp_path / "state", asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as learning:
        there = partial(loop.run_in_executor, learning)
        async with world_of(model, state, *overrides(broker)) as world:
            await talk(world)
            await relayed(world)
            parts = await there(learner, world)
            assert await there(learn, parts) == "policy-v1"
            alice = pseudonym(world.server.services.chat.tickets.key, "default", ALICE[0][1])
            canaries, key = wanted(world, alice), key_of(world, alice)
            assert prune(world) > 0 and len(world.events("feedback", "feedback_given")) <= 1, (
                "the newest stays"
            )
            assert await exported(world) == len(OTHERS) + 3, "the broker has what serving's file has not"
            asked = await world.votes.ForgetMe(feedback_pb2.ForgetMeRequest(request_id="f"), metadata=ALICE)
            await relayed(world)

            async def heeded() -> bool:
                return bool(await there(heed, parts))

            await until_async(heeded, 30)
            how = await world.privacy.GetErasure(privacy_pb2.GetErasureRequest(erasure_id=asked.erasure_id))
            assert (list(how.done), list(how.policy_versions)) == (["learner", "serving"], ["policy-v1"])
            assert await exported(world) == len(OTHERS)
            await relayed(world)
            await check_topics(world, await asyncio.to_thread(in_topics, broker), canaries, key)
            assert in_rows(state, canaries) == [] and in_files(state, canaries) == []
            await there(parts.close)
    assert in_files(state, canaries) == [], "after everything was closed"


async def check_topics(
    world: World, records: list[tuple[bytes, bytes]], canaries: dict[str, bytes], key: Key
) -> None:
    """Nothing is readable, and only because the key is gone: with it, all would be."""
    assert [name for record in records for name, raw in canaries.items() if raw in b"".join(record)] == []
    events = [Event.FromString(value) for value, _ in records]
    hers = [event for event in events if key_id(event) == key.id]
    assert len(hers) >= 3 * 2 + 1 + 3 + 1, (
        "three comparisons of two answers, one answer; votes and a correction"
    )
    again = await world.privacy.GetKeys(privacy_pb2.GetKeysRequest(ids=[key.id]))
    assert list(again.keys) == []
    assert all(open_(event, key.box) for event in hers) and "canary" in str(hers)

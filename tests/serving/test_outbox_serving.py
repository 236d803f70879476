"""Serving with log.kind = "kafka": the one setting that changes, with a broker, without one, and with the outbox full."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import grpc
import pytest

from feedback.join import Joiner
from feedback.log import read_all
from feedback.open import open_reader
from feedback.training_set import TrainingSet
from heliotrope.v1 import admin_pb2, feedback_pb2
from learner.inbox import Inbox
from tests.feedback.broker import LocalBroker, local
from tests.serving.running import ALICE, World, fails, running
from tests.waiting import until_async


@pytest.fixture
def broker() -> Iterator[LocalBroker]:
    made = local()
    yield made
    made.kill()


def with_kafka(broker: LocalBroker, *more: str) -> list[str]:
    return [
        "log.kind=kafka", f"kafka.bootstrap_servers=127.0.0.1:{broker.port}", "kafka.timeout_seconds=2",
        "kafka.partitions=2", *more,
    ]  # fmt: skip


async def outbox(world: World) -> admin_pb2.OutboxStatus:
    return (await world.admin.GetStatus(admin_pb2.GetStatusRequest(), metadata=ALICE)).outbox


async def relayed(world: World) -> None:
    async def empty() -> bool:
        return (await outbox(world)).depth == 0

    await until_async(empty, 30)


async def test_what_the_broker_refused_is_listed_and_sent_again_when_asked_for(
    tmp_path: Path, broker: LocalBroker
) -> None:
    async with running(tmp_path / "state", *with_kafka(broker)) as world:
        await world.chat()
        relay = world.server.services.admin.relay
        assert relay is not None
        (row, *_) = relay.outbox.waiting(0, 1)
        relay.outbox.quarantine(row, "RecordListTooLarge")
        broker.start()
        await relayed(world)
        listed = await world.admin.ListQuarantine(admin_pb2.ListQuarantineRequest(limit=10))
        assert [(r.event_id, r.reason) for r in listed.refused] == [(row.event_id, "RecordListTooLarge")]
        again = await world.admin.ReplayQuarantine(admin_pb2.ReplayQuarantineRequest())
        assert again.sent_again == 1
        await relayed(world)
        assert (await outbox(world)).quarantined == 0
        # A client left open looks for its broker, and draws from `random`, while later tests run.
        with closing(open_reader(world.config)) as log:
            assert row.event_id in [r.event.event_id for r in read_all(log, row.topic) if r.event]


async def test_chat_and_vote_without_a_broker_reach_the_learner_once_there_is_one(
    tmp_path: Path, broker: LocalBroker
) -> None:
    async with running(tmp_path / "state", *with_kafka(broker)) as world:
        answered = await world.chat()
        (name,) = answered.ids
        await world.give(
            answered.started.feedback_ticket, thumb=feedback_pb2.Thumb(response_id=name, up=True)
        )
        before = await outbox(world)
        assert (before.depth, before.connected) == (3, False), "begun, ended, judged"
        broker.start()

        await relayed(world)
        log = open_reader(world.config)
        rules = partial(Joiner, ["human", "unspecified"], 0.0)
        path = world.config.paths.training_set
        inbox = Inbox(log, TrainingSet(path, rules, "rules", time.time), window=100)
        assert inbox.read() == 3
        assert {place.split("/")[0] for place in inbox.positions} == {"exchanges", "feedback"}
        assert inbox.read() == 0
        inbox.close()


async def test_a_full_outbox_refuses_votes_and_chat_goes_on_without_them(
    tmp_path: Path, broker: LocalBroker
) -> None:
    async with running(tmp_path / "state", *with_kafka(broker, "outbox.max_events=2")) as world:
        answered = await world.chat()
        (name,) = answered.ids
        async with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "outbox takes 2", "nothing was recorded"):
            await world.give(
                answered.started.feedback_ticket, thumb=feedback_pb2.Thumb(response_id=name, up=True)
            )
        unlogged = await world.chat()
        assert unlogged.texts and not unlogged.started.feedback_ticket
        assert (await outbox(world)).depth == 2

"""The relay against a real broker over real sockets: absent at first, killed and back empty, frozen."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from feedback.kafka_link import KafkaLink
from feedback.kafka_log import KafkaLog
from feedback.log import Event, read_all
from feedback.outbox import Outbox
from feedback.relay import Relay
from feedback.sqlite_log import SqliteLog
from heliotrope.settings.log import Kafka
from heliotrope.settings.log import Outbox as Settings
from tests.feedback.broker import LocalBroker, local, settings
from tests.feedback.log_events import vote
from tests.waiting import until


@pytest.fixture
def broker() -> Iterator[LocalBroker]:
    made = local()
    yield made
    made.kill()


@pytest.fixture
def at(broker: LocalBroker) -> Kafka:
    return settings(f"127.0.0.1:{broker.port}", timeout_seconds=2)


@pytest.fixture
def relay(tmp_path: Path, at: Kafka) -> Iterator[Relay]:
    log = SqliteLog(tmp_path / "events.db")
    outbox = Outbox(log, str(tmp_path / "relay.db"), Settings(window=50))
    made = Relay(outbox, partial(KafkaLink, at), patience=3)
    made.start()
    yield made
    made.stop()
    outbox.close()
    log.close()


def votes(first: int, count: int) -> list[Event]:
    """Of 7 conversations in turn, numbered by the producer."""
    made = [vote(f"v{i}") for i in range(first, first + count)]
    for number, event in enumerate(made, first):
        event.conversation_id, event.sequence = f"talk{number % 7}", number + 1
    return made


def relayed(at: Kafka) -> list[Event]:
    """All that the broker has of the topic `feedback`."""
    log = KafkaLog(at)
    found = [r.event for r in read_all(log, "feedback") if r.event]
    log.close()
    return found


def test_what_was_committed_without_a_broker_is_relayed_in_order_per_key_once_there_is_one(
    broker: LocalBroker, at: Kafka, relay: Relay
) -> None:
    relay.outbox.store.append(votes(0, 200))
    until(lambda: relay.health.failures)
    assert (relay.outbox.depth, relay.health.connected) == (200, False)
    broker.start()
    until(lambda: relay.outbox.depth == 0, 40)
    found = relayed(at)
    assert sorted(e.sequence for e in found) == list(range(1, 201))
    for key in range(7):
        in_order = [e.sequence for e in found if e.conversation_id == f"talk{key}"]
        assert in_order == sorted(in_order)


def test_a_broker_that_was_killed_and_came_back_empty_gets_everything_again(
    broker: LocalBroker, at: Kafka, relay: Relay
) -> None:
    broker.start()
    relay.outbox.store.append(votes(0, 100))
    until(lambda: relay.outbox.depth == 0, 40)
    broker.kill()
    relay.outbox.store.append(votes(100, 100))
    broker.start()
    until(lambda: relay.health.resent >= 100 and relay.outbox.depth == 0, 60)
    assert {e.event_id for e in relayed(at)} == {f"v{i}" for i in range(200)}


def test_a_frozen_broker_delays_and_loses_nothing(broker: LocalBroker, at: Kafka, relay: Relay) -> None:
    broker.start()
    relay.outbox.store.append(votes(0, 10))
    until(lambda: relay.outbox.depth == 0, 40)
    broker.freeze()
    relay.outbox.store.append(votes(10, 100))
    until(lambda: relay.health.failures, 30)
    assert relay.outbox.depth == 100
    broker.thaw()
    until(lambda: relay.outbox.depth == 0, 60)
    assert {e.event_id for e in relayed(at)} == {f"v{i}" for i in range(110)}

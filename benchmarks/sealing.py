"""What sealing costs: events committed a second through group commit, plain and sealed, in one run.

    python -m benchmarks.sealing --events 10000 --people 500

Events are ends of responses as serving writes them (about 200 token ids each); commits are durable. Sealing makes one
key a person at their first event. Rounds alternate, so that both meet the same disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feedback.log import Store
from feedback.sealed_log import SealedStore
from feedback.sqlite_log import SqliteLog
from feedback.writer import LogWriter
from heliotrope.v1 import common_pb2, events_pb2
from serving.keys import KeyStore

WAITING = 2048
"""Events that wait for the writer at once, as of many people at the same time."""


def events(count: int, people: int, round_: int) -> Iterator[events_pb2.Event]:
    """Ends of responses: 60 prompt tokens, 140 drawn, their log-probabilities and the text."""
    for i in range(count):
        event = events_pb2.Event(
            event_id=f"{round_}-{i}", tenant="default", user=f"{i % people:032x}", conversation_id=f"c{i}"
        )
        served = event.response_served
        served.response_id, served.text = f"r{i}", "word " * 120
        served.messages.add(role=common_pb2.ROLE_USER, content="question " * 30)
        served.prompt_token_ids.extend(range(1000, 1060))
        served.response_token_ids.extend(range(20_000, 20_140))
        served.logprobs.extend([-1.25] * 140)
        yield event


@contextmanager
def store(folder: Path, sealed: bool) -> Iterator[Store]:
    """A fresh log in `folder`, closed at the end."""
    inner = SqliteLog(folder / "events.db")
    keys = KeyStore(folder / "people.db", b"k" * 32)
    try:
        yield SealedStore(inner, keys) if sealed else inner
    finally:
        inner.close()
        keys.close()


async def write(writer: LogWriter, made: list[events_pb2.Event]) -> None:
    """All of them, so many at a time."""
    for start in range(0, len(made), WAITING):
        await writer.append(made[start : start + WAITING])


def written_a_second(made: list[events_pb2.Event], sealed: bool) -> tuple[float, int]:
    """Events a second until the last is durable, and bytes of the file."""
    with tempfile.TemporaryDirectory() as name, store(Path(name), sealed) as log:
        writer = LogWriter(log)
        began = time.perf_counter()
        asyncio.run(write(writer, made))
        seconds = time.perf_counter() - began
        writer.stop()
        return len(made) / seconds, sum(path.stat().st_size for path in Path(name).glob("events.db*"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=10_000, help="events of one round")
    parser.add_argument("--people", type=int, default=500, help="people who give them")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each kind")
    asked = parser.parse_args()
    rates: dict[bool, list[float]] = {False: [], True: []}
    size: dict[bool, int] = {}
    for number in range(asked.rounds):
        for sealed in (False, True):
            rate, size[sealed] = written_a_second(list(events(asked.events, asked.people, number)), sealed)
            rates[sealed].append(rate)
            print(f"round {number} {'sealed' if sealed else 'plain'}: {rate:.0f} events/s", file=sys.stderr)
    plain, closed = (statistics.median(rates[kind]) for kind in (False, True))
    print(
        json.dumps(
            {"events": asked.events, "people": asked.people, "rounds": asked.rounds,
             "plain_per_s": round(plain), "sealed_per_s": round(closed), "ratio": round(closed / plain, 3),
             "plain_bytes_per_event": size[False] // asked.events, "sealed_bytes_per_event": size[True] // asked.events}
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()

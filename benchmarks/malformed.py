"""Records that a reader must not choke on: eight ways to be wrong, as a foreign or broken producer would write them."""

from __future__ import annotations

import random
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from feedback.inspection import Reason
from feedback.log import EXCHANGES, FEEDBACK, MAX_BYTES
from heliotrope.v1 import chat_pb2, common_pb2, events_pb2

START = 1_700_000_000
DAY = 86_400

Made = tuple[str, bytes, Reason]
"""Topic, bytes to store, and the code that they must get."""


def malformed(count: int, seed: int, oversize: int) -> Iterator[Made]:
    """`count` records, `oversize` of them beyond the log's bound, the others in equal shares of every other way."""
    rng, ways = random.Random(seed), list(WAYS)
    big = set(rng.sample(range(count), oversize))
    for n in range(count):
        if n in big:
            yield FEEDBACK, rng.randbytes(64) + b"\xff" * MAX_BYTES, Reason.OVERSIZE
        else:
            yield ways[n % len(ways)](n, rng)


def write_raw(path: Path, rows: Sequence[tuple[str, str, bytes]]) -> None:
    """Rows of (topic, event id, bytes) into the embedded log's file, each with the checksum of what it holds."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO events (topic, key, event_id, crc, value) VALUES (?, 'raw', ?, ?, ?)",
        [(topic, id, zlib.crc32(value), value) for topic, id, value in rows],
    )
    connection.execute("COMMIT")
    connection.close()


def event(n: int, kind: str = "vote") -> events_pb2.Event:
    """A right event, to be spoiled or to move log time."""
    made = events_pb2.Event(
        event_id=f"{kind}-{n}", producer_id="p", sequence=n + 1, tenant="t", user=f"u{n % 997}", conversation_id=f"c{n % 997}",
        source=common_pb2.SOURCE_HUMAN, purpose=common_pb2.PURPOSE_CHAT, consent=True, schema=1,
    )  # fmt: skip
    made.time.FromSeconds(START + n % DAY)
    return made


def vote(n: int) -> events_pb2.Event:
    """A thumb on a response that was never served."""
    made = event(n)
    made.feedback_given.feedback.thumb.up = True
    made.feedback_given.feedback.thumb.response_id = f"never-{n}"
    made.feedback_given.targets.add(response_id=f"never-{n}")
    return made


def answer(n: int) -> events_pb2.Event:
    """The end of a response of forty tokens."""
    made = event(n, "end")
    served = made.response_served
    served.response_id = f"response-{n}"
    served.prompt_token_ids.extend(range(30))
    served.response_token_ids.extend(range(1000, 1040))
    served.logprobs.extend([-1.0] * 40)
    return made


def _random(n: int, rng: random.Random) -> Made:
    return FEEDBACK, b"\xff" + rng.randbytes(rng.randint(1, 400)), Reason.UNPARSABLE


def _truncated(n: int, rng: random.Random) -> Made:
    return EXCHANGES, answer(n).SerializeToString()[: -rng.randint(1, 100)], Reason.UNPARSABLE


def _other_type(n: int, rng: random.Random) -> Made:
    return (
        FEEDBACK,
        chat_pb2.ChatRequest(request_id=f"r{n}", conversation_id=f"c{n}").SerializeToString(),
        Reason.NO_CONTENT,
    )


def _other_topic(n: int, rng: random.Random) -> Made:
    return EXCHANGES, vote(n).SerializeToString(), Reason.WRONG_TOPIC


def _other_version(n: int, rng: random.Random) -> Made:
    made = vote(n)
    made.schema = rng.randint(2, 99)
    return FEEDBACK, made.SerializeToString(), Reason.OTHER_SCHEMA


def _nan(n: int, rng: random.Random) -> Made:
    made = answer(n)
    made.response_served.logprobs[rng.randrange(40)] = rng.choice([float("nan"), float("inf")])
    return EXCHANGES, made.SerializeToString(), Reason.NOT_FINITE


def _future(n: int, rng: random.Random) -> Made:
    made = vote(n)
    made.time.FromSeconds(rng.randint(4_000_000_000, 250_000_000_000))
    return FEEDBACK, made.SerializeToString(), Reason.TIME_OUT_OF_RANGE


def _never_served(n: int, rng: random.Random) -> Made:
    return FEEDBACK, vote(n).SerializeToString(), Reason.TARGET_UNKNOWN


WAYS: tuple[Callable[[int, random.Random], Made], ...] = (
    _random, _truncated, _other_type, _other_topic, _other_version, _nan, _future, _never_served,
)  # fmt: skip

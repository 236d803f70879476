"""What is wrong with a record of the log, as a stable code: such a record goes to quarantine and never blocks a reader."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from feedback.log import MAX_BYTES, Record, topic_of
from heliotrope.v1.events_pb2 import Event

AHEAD_SECONDS = 86_400.0
"""How far a producer's clock may run ahead of the reader's."""


class Reason(StrEnum):
    """Why a record is in quarantine. Names are stable: alerts and scripts may match them."""

    CHECKSUM = "checksum"
    """The bytes are not those that were written."""
    UNPARSABLE = "unparsable"
    """No event: random, truncated or of another format."""
    OVERSIZE = "oversize"
    """Larger than the log takes."""
    NO_ID = "no_id"
    """An event without event_id: a repeat of it could not be told."""
    NO_CONTENT = "no_content"
    """Of another type, or of a kind that only a newer program knows."""
    OTHER_SCHEMA = "other_schema"
    """A version of the schema that only a newer program knows."""
    WRONG_TOPIC = "wrong_topic"
    """A known event in a topic that it does not belong to."""
    NOT_FINITE = "not_finite"
    """A number that is NaN or infinite, or a probability outside 0 to 1."""
    TIME_OUT_OF_RANGE = "time_out_of_range"
    """Before 1970, or more than a day ahead of the reader's clock."""
    TARGET_UNKNOWN = "target_unknown"
    """A judgement of a response whose end never came in the time that it waited."""


@dataclass(frozen=True)
class Problem:
    """A code and, for people, the words."""

    reason: Reason
    detail: str


def inspect(record: Record, now: float) -> Problem | None:
    """What is wrong with a record by itself; None when nothing is. now: the reader's clock, seconds since 1970."""
    if record.event is None:
        return _unread(record)
    event = record.event
    if (size := event.ByteSize()) > MAX_BYTES:
        return Problem(Reason.OVERSIZE, f"{size:,} bytes, the log takes {MAX_BYTES:,}")
    if (topic := topic_of(event)) != record.topic:
        return Problem(
            Reason.WRONG_TOPIC, f"{event.WhichOneof('what')} belongs to {topic}, not to {record.topic}"
        )
    seconds = event.time.ToNanoseconds() / 1e9
    if not 0 <= seconds <= now + AHEAD_SECONDS:
        return Problem(Reason.TIME_OUT_OF_RANGE, f"its time is {seconds:.0f} s and it is {now:.0f} s now")
    return _numbers(event)


def _unread(record: Record) -> Problem:
    """By the code that the log put before its words (`feedback.log.parse_event`); without one it could not be parsed."""
    if len(record.value) > MAX_BYTES:
        return Problem(Reason.OVERSIZE, f"{len(record.value):,} bytes, the log takes {MAX_BYTES:,}")
    code, _, words = record.problem.partition(": ")
    if code in set(map(str, Reason)):
        return Problem(Reason(code), words)
    return Problem(Reason.UNPARSABLE, record.problem)


def _numbers(event: Event) -> Problem | None:
    what = event.WhichOneof("what")
    if what == "response_served":
        served = event.response_served
        if not math.isfinite(sum(served.logprobs)):
            return Problem(Reason.NOT_FINITE, "a log-probability is not finite")
        times, started = (served.first_token_seconds, served.total_seconds), served.started
    elif what == "response_started":
        times, started = (), event.response_started
    else:
        return None
    if not all(map(math.isfinite, (*times, started.sampling.temperature))):
        return Problem(Reason.NOT_FINITE, "a time or the temperature is not finite")
    if not 0 <= started.arm_probability <= 1:
        return Problem(Reason.NOT_FINITE, f"arm_probability is {started.arm_probability}")
    return None

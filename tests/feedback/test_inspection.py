"""Every way in which a record can be wrong has its code, and what is right has none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from feedback.inspection import AHEAD_SECONDS, Reason, inspect
from feedback.log import EXCHANGES, FEEDBACK, MAX_BYTES, Record, parse_event
from heliotrope.v1 import feedback_pb2
from heliotrope.v1.events_pb2 import Event
from tests.feedback.join_events import compared, served

NOW = 1_700_000_000.0


def read(value: bytes, topic: str = EXCHANGES) -> Record:
    return Record(topic, 0, 1, *parse_event(value), value)


def spoiled(change: Callable[[Event], object]) -> bytes:
    event = served("a", range(100, 120))
    event.response_served.logprobs.extend([-1.0] * 20)
    change(event)
    return event.SerializeToString()


def set_time(seconds: float) -> Callable[[Event], object]:
    return lambda event: event.time.FromSeconds(int(seconds))


RIGHT = spoiled(lambda event: None)
CASES = {
    "random bytes": (b"\xff\x00\x13" * 9, Reason.UNPARSABLE),
    "truncated": (RIGHT[:-7], Reason.UNPARSABLE),
    "another message": (feedback_pb2.GiveFeedbackRequest(request_id="r").SerializeToString(), Reason.NO_CONTENT),
    "oversize": (spoiled(lambda e: setattr(e.response_served, "text", "x" * MAX_BYTES)), Reason.OVERSIZE),
    "oversize and random": (b"\xff" * (MAX_BYTES + 1), Reason.OVERSIZE),
    "newer schema": (spoiled(lambda e: setattr(e, "schema", 2)), Reason.OTHER_SCHEMA),
    "no id": (spoiled(lambda e: e.ClearField("event_id")), Reason.NO_ID),
    "no content": (spoiled(lambda e: e.ClearField("response_served")), Reason.NO_CONTENT),
    "wrong topic": (compared("v", "A").SerializeToString(), Reason.WRONG_TOPIC),
    "NaN log-probability": (spoiled(lambda e: e.response_served.logprobs.append(float("nan"))), Reason.NOT_FINITE),
    "infinite": (spoiled(lambda e: e.response_served.logprobs.append(float("-inf"))), Reason.NOT_FINITE),
    "NaN seconds": (spoiled(lambda e: setattr(e.response_served, "total_seconds", float("nan"))), Reason.NOT_FINITE),
    "probability of 2": (
        spoiled(lambda e: setattr(e.response_served.started, "arm_probability", 2.0)), Reason.NOT_FINITE,
    ),
    "far future": (spoiled(set_time(NOW + AHEAD_SECONDS + 1)), Reason.TIME_OUT_OF_RANGE),
    "year 9999": (spoiled(set_time(253_402_300_799)), Reason.TIME_OUT_OF_RANGE),
    "before 1970": (spoiled(set_time(-5)), Reason.TIME_OUT_OF_RANGE),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_way_to_be_wrong_has_its_code(name: str) -> None:
    value, reason = CASES[name]
    found = inspect(read(value), NOW)
    assert found is not None and found.reason == reason, found


@pytest.mark.parametrize("ahead", [0, AHEAD_SECONDS])
def test_what_is_right_has_no_problem(ahead: float) -> None:
    assert inspect(read(spoiled(set_time(NOW + ahead))), NOW) is None
    assert inspect(read(compared("v", "A").SerializeToString(), FEEDBACK), NOW) is None

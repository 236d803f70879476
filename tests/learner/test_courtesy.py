"""Training waits while many people are answered, and not for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from learner.courtesy import LONGEST_SECONDS, LOOK_SECONDS, give_way


class Time:
    """A clock that sleeping alone moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


def said(counts: Iterator[int]) -> Callable[[], int]:
    return lambda: next(counts)


def test_beside_few_people_it_goes_on_at_once(time: Time) -> None:
    assert give_way(lambda: 8, 8, time, time.sleep) == 0.0
    assert time.now == 100.0


def test_it_waits_until_enough_have_their_answers(time: Time) -> None:
    assert give_way(said(iter([12, 11, 9, 8, 99])), 8, time, time.sleep) == 2 * LOOK_SECONDS


def test_a_server_that_is_always_full_learns_too(time: Time) -> None:
    assert give_way(lambda: 9, 8, time, time.sleep) == LONGEST_SECONDS

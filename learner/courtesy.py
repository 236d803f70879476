"""While more people are answered than training can be beside, it waits between two steps."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from learner.parts import Parts

log = logging.getLogger("heliotrope.learner")

PEOPLE_A_CORE = 4
"""Answered at once beside whom it trains."""
LONGEST_SECONDS = 60.0
"""So long at most before a step: a server that is always full must learn, too."""
LOOK_SECONDS = 0.5


def wait_turn(parts: Parts) -> None:
    """Before a step: see `give_way`."""
    give_way(parts.sampler.people, most_people())


def most_people() -> int:
    """People answered at once beside whom it trains, on this machine."""
    return PEOPLE_A_CORE * (os.cpu_count() or 1)


def give_way(
    people: Callable[[], int], most: int,
    clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep,
) -> float:  # fmt: skip
    """Wait while more than `most` people are answered; how long that took, seconds. people: how many at this moment."""
    began = clock()
    if (now := people()) <= most:
        return 0.0
    log.info("training waits: %d people are answered, and it goes on beside %d", now, most)
    while clock() - began < LONGEST_SECONDS and people() > most:
        sleep(LOOK_SECONDS)
    return clock() - began

"""While more people are answered than training can be beside, it waits between two steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from learner.parts import Parts

log = logging.getLogger("heliotrope.learner")

LONGEST_SECONDS = 60.0
"""So long at most before a step: a server that is always full must learn, too."""
LOOK_SECONDS = 0.5


def wait_turn(parts: Parts) -> None:
    """Before a step: see `give_way`."""
    give_way(parts.sampler.people, parts.config.learner.pause_above)


def give_way(
    people: Callable[[], int], most: int,
    clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep,
) -> float:  # fmt: skip
    """Wait while more than `most` people are answered; how long that took, seconds. people: how many at this moment."""
    began = clock()
    if (now := people()) <= most:
        return 0.0
    log.info("training waits: %d people are answered, above learner.pause_above = %d", now, most)
    while clock() - began < LONGEST_SECONDS and people() > most:
        sleep(LOOK_SECONDS)
    return clock() - began

"""The learner that is killed: as `python -m learner` runs it, on a tiny model. Apart from programs.py: it imports torch."""

from __future__ import annotations

import signal
from threading import Event

import learner.build
import learner.erasure
import learner.loop
import learner.progress
import learner.verbs
from benchmarks.faults.programs import Orders, settle
from learner.__main__ import learn

__all__ = ["run_learner"]
PRELOADED = (learner.build, learner.erasure, learner.loop, learner.progress, learner.verbs)


def run_learner(orders: Orders) -> None:
    """Learn until SIGTERM."""
    settle(orders)
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    learn(orders.config, stop)

"""Who is killed where, and what befalls the broker and the disk meanwhile: all of it from one seed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

SERVING = (
    "before commit", "between commit and reply", "between reply and send", "between send and mark", "in a checkpoint",
)  # fmt: skip
LEARNER = ("between rows and position", "between files and READY")
ANY_TIME = "at any time"
RELAYING = ("between reply and send", "between send and mark")
"""Failpoints that only a log with a broker comes to."""
HIGHEST = {"between files and READY": 2, "between rows and position": 3, "in a checkpoint": 1}
"""The time of reaching a failpoint at which a life ends is at most this; elsewhere USUAL."""
USUAL = 40
ACTIONS = {"in a checkpoint": "soon"}
"""Inside SQLite nothing of ours can end the process: another thread does, a moment later."""
LEARNER_SHARE = 0.08
"""Of the kills at any time: the learner's lives are ten times as long."""
EPISODE_KILLS = 40
TROUBLES = ("frozen", "emptied", "absent", "full", "slow")
TROUBLE_EVERY = 10
"""Lives of serving between two troubles, on average."""


@dataclass(frozen=True)
class Kill:
    """How one life ends. place: a failpoint, or ANY_TIME. at: which time of reaching it. seconds: when, for ANY_TIME."""

    place: str
    at: int = 1
    seconds: float = 0.0

    @property
    def failpoints(self) -> str:
        """As HELIOTROPE_FAILPOINTS has it; empty for ANY_TIME."""
        return "" if self.place == ANY_TIME else f"{self.place}={ACTIONS.get(self.place, 'kill')}@{self.at}"


@dataclass(frozen=True)
class Trouble:
    """What befalls something before a life of serving. kind: the broker `frozen`, `emptied` (killed and started again) or
    `absent`, the disk `full`, the learner `slow` (stopped). seconds: for how long."""

    before: int
    kind: str
    seconds: float


@dataclass(frozen=True)
class Episode:
    """One installation's life. seed: of its clients. log: "kafka" or "sqlite". learner: its kills; None: nobody learns."""

    number: int
    seed: int
    log: str
    serving: tuple[Kill, ...]
    learner: tuple[Kill, ...] | None
    troubles: tuple[Trouble, ...]


def plan(seed: int, kills: int, minimum: int, only: str = "") -> list[Episode]:
    """Episodes of about EPISODE_KILLS kills. Each failpoint gets `minimum`, or a fourteenth of the kills where they are
    too few for that; the rest fall at any time. only: a place that all fall at."""
    rng = random.Random(seed)
    each = min(minimum, kills // 14)
    places = [only] * kills if only else [place for place in (*SERVING, *LEARNER) for _ in range(each)]
    serving = [_kill(rng, place) for place in places if place in SERVING]
    learner = [_kill(rng, place) for place in places if place in LEARNER]
    for _ in range(kills - len(places)):
        (learner if rng.random() < LEARNER_SHARE else serving).append(_kill(rng, ANY_TIME))
    rng.shuffle(serving)
    rng.shuffle(learner)
    count = math.ceil(kills / EPISODE_KILLS)
    return [_episode(rng, n, serving[n::count], learner[n::count]) for n in range(count)]


def _episode(rng: random.Random, number: int, serving: Sequence[Kill], learner: Sequence[Kill]) -> Episode:
    relays = any(kill.place in RELAYING for kill in (*serving, *learner))
    log = "kafka" if relays or rng.random() < 0.5 else "sqlite"
    return Episode(
        number, rng.getrandbits(32), log, tuple(serving), tuple(learner), _troubles(rng, len(serving), log)
    )


def _troubles(rng: random.Random, lives: int, log: str) -> tuple[Trouble, ...]:
    kinds = [kind for kind in TROUBLES if log == "kafka" or kind in ("full", "slow")]
    found = []
    for life in range(lives):
        if rng.random() < 1 / TROUBLE_EVERY:
            found.append(Trouble(life, rng.choice(kinds), rng.uniform(0.5, 4.0)))
    return tuple(found)


def _kill(rng: random.Random, place: str) -> Kill:
    if place == ANY_TIME:
        return Kill(place, seconds=rng.uniform(0.02, 1.2))
    return Kill(place, at=rng.randint(1, HIGHEST.get(place, USUAL)))

"""What a start takes up of what a stop or a kill left: what is learned already, and the update that was under way."""

from __future__ import annotations

import logging
from threading import Event

from feedback.lineage import readable
from feedback.log import Positions
from heliotrope.errors import HeliotropeError, LogError, Unavailable
from learner import rewards
from learner.parts import Parts, judgements, known
from learner.store import Plan

log = logging.getLogger("heliotrope.learner")


def recover(parts: Parts, stop: Event | None = None) -> None:
    """At start: learn again what the newest version had learned, so that only what came after it is news.

    Waits for a log, or for serving's keys to it, that does not answer, until told to stop.
    """
    versions = parts.registry.versions()
    if not versions:
        return
    try:
        newest = parts.registry.read(versions[-1]).manifest
    except HeliotropeError as error:
        log.warning("the newest version is unreadable, all feedback counts as news: %s", error)
        return
    while not _read_until(parts, newest.log_positions):
        if (stop or Event()).wait(parts.config.learner.poll_seconds):
            return
    preferences = known(parts)
    said, digest = judgements(preferences), newest.reward_model.get("digest", "")
    given_at = parts.inbox.training_set.facts.given_at
    if not rewards.take_up(parts.reward, parts.registry, digest, said, given_at):
        log.warning("the reward model of %s is not kept here; learning it again", newest.version)
        parts.store.record(parts.reward.learn(said), afresh=True)
    parts.inbox.settle(preferences)


def _read_until(parts: Parts, done: Positions) -> bool:
    try:
        parts.inbox.read(until=done)
    except (LogError, Unavailable) as error:
        log.warning("waiting for the log: %s", error)
        return False
    return True


def begun(parts: Parts) -> Plan | None:
    """The update that a kill cut off; not one that was cut off after its READY."""
    plan = parts.store.begun()
    if plan and any(version.manifest.trained_at == plan.now for version in readable(parts.registry)):
        parts.store.end()
        return None
    return plan

"""The learner's part of an erasure, and a successor that never learned from somebody."""

from __future__ import annotations

import logging
import time

from feedback.traces import touched
from heliotrope.errors import Unavailable
from heliotrope.policies import BASE, number
from heliotrope.registry import PolicyVersion
from learner.loop import Parts, update

log = logging.getLogger("heliotrope.learner")


def heed(parts: Parts) -> int:
    """Delete what is held of people who asked for it, then say so to serving; how many there were.

    What is asked while serving is away is heeded once it is back: serving keeps the list.
    """
    try:
        asked = parts.secrets.pending()
    except Unavailable:
        return 0
    if not asked:
        return 0
    parts.secrets.forget()
    parts.inbox.read()
    preferences = parts.inbox.preferences()
    parts.reward.keep(preferences, time.time())
    parts.prepared.retain({p.id for p in preferences})
    for erasure_id in asked:
        parts.secrets.confirm(erasure_id)
        log.info("erasure %s: nothing of this person is held any more", erasure_id)
    return len(asked)


def retrain_without(parts: Parts, user: str, tenant: str) -> PolicyVersion:
    """Publish a version that starts from the last ancestor of the live one that is clean of a person, and is trained,
    its reward model too, on what everybody else gave. user: the pseudonym. Raises as `update` does."""
    parts.inbox.read()
    learned = touched(parts.inbox.log, parts.registry, (tenant, user))
    version = parts.inbox.live
    while version != BASE:
        manifest = parts.registry.read(number(version)).manifest
        if (
            version not in learned.policies
            and manifest.reward_model.get("digest") not in learned.reward_models
        ):
            break
        version = manifest.parent
    others = [p for p in parts.inbox.preferences() if p.user != user]
    log.info("the last version clean of %s is %s", user, version)
    return update(parts, others, version)

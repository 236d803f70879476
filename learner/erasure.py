"""The learner's part of an erasure, and a successor that never learned from somebody."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence

from feedback.traces import touched
from heliotrope.errors import HeliotropeError, Unavailable
from heliotrope.policies import BASE, number
from heliotrope.registry import PolicyVersion
from learner import rewards
from learner.loop import plan_of, update
from learner.parts import Parts, judgements, known, rehearse_only
from learner.without import Without

log = logging.getLogger("heliotrope.learner")


def heed(parts: Parts) -> int:
    """Delete what is held of people who asked for it, then say so to serving; how many there were.

    What fails, or is asked while serving is away, is tried again at the next look: serving keeps the list.
    """
    try:
        asked = parts.secrets.pending()
    except Unavailable:
        return 0
    try:
        return _heed(parts, asked) if asked else 0
    except (HeliotropeError, OSError, sqlite3.Error) as error:
        log.warning("%d erasures wait and are tried again: %s", len(asked), error)
        return 0


def _heed(parts: Parts, asked: Sequence[str]) -> int:
    """Confirms only those that the log has given: over a broker, what serving has committed comes a moment later. An update that a
    kill cut off is not made as it would have been: it may have had what is now to go."""
    parts.store.end()
    parts.secrets.forget()
    parts.inbox.read()
    kept = parts.inbox.training_set
    read = [id for id in asked if kept.facts.place_of(id) is not None]
    if not read:
        return 0
    standing = known(parts)
    rehearse_only(
        parts, judgements(standing)
    )  # before the purge: killed in between, it learns again and says the same
    for digest in rewards.purge(parts.registry, parts.inbox.erased):
        log.warning("reward model %s had learned from somebody who is erased, and is deleted", digest[:12])
    parts.prepared.retain({p.id for p in standing})
    kept.scrub()
    for erasure_id in read:
        parts.secrets.confirm(erasure_id)
        log.info("erasure %s: nothing of this person is held any more", erasure_id)
    return len(read)


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
    log.info("the last version clean of %s is %s", user, version)
    return update(parts, known(parts), plan_of(parts, version), Without.of(user))

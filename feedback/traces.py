"""Which versions learned from a person: from the log's readable part and the registry's manifests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from feedback.log import FEEDBACK, Log, read_all
from feedback.teachings import votes_of
from heliotrope.errors import HeliotropeError
from heliotrope.policies import BASE
from heliotrope.registry import Manifest, Registry

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Touched:
    """policies: versions whose weights learned from the person, themselves or through a parent, oldest first.
    reward_models: digests of the reward models that may have."""

    policies: tuple[str, ...]
    reward_models: tuple[str, ...]


def touched(log: Log, registry: Registry, person: tuple[str, str]) -> Touched:
    """From every readable manifest. A reward model goes on from the one before it; where an older manifest does not say
    what it learned from, it counts when it was made after the person's first vote, so that none is missed."""
    votes, first = _votes(log, person)
    manifests: dict[str, Manifest] = {}
    for number in registry.versions():
        try:
            manifests[f"policy-v{number}"] = registry.read(number).manifest
        except HeliotropeError as error:
            logger.error("policy-v%d cannot be looked at for an erasure: %s", number, error)
    return Touched(tuple(_policies(manifests, votes)), tuple(_rewards(manifests, votes, first)))


def _votes(log: Log, person: tuple[str, str]) -> tuple[set[str], dict[str, int]]:
    """Ids of the person's judgements, and where the first lies in each place."""
    ids, first = set[str](), dict[str, int]()
    for record in read_all(log, FEEDBACK):
        event = record.event
        if event is not None and (event.tenant, event.user) == person and event.HasField("feedback_given"):
            ids.add(event.event_id)
            first[record.place] = min(first.get(record.place, record.offset), record.offset)
    return ids, first


def _policies(manifests: Mapping[str, Manifest], votes: Collection[str]) -> list[str]:
    """A version whose parent cannot be read counts: what the parent learned from is unknown."""
    dirty: list[str] = []
    for name, manifest in manifests.items():
        unknown = manifest.parent != BASE and manifest.parent not in manifests
        if unknown or _holds(manifest.example_ids, votes) or manifest.parent in dirty:
            dirty.append(name)
    return dirty


def _rewards(
    manifests: Mapping[str, Manifest], votes: Collection[str], first: Mapping[str, int]
) -> list[str]:
    return tainted(manifests.values(), lambda manifest: _rewarded(manifest, votes, first))


def tainted(manifests: Iterable[Manifest], learned: Callable[[Manifest], bool]) -> list[str]:
    """Digests of reward models that learned what `learned` says of their own manifest, or go on from one that did or that
    nothing is known of. manifests: oldest first."""
    known, dirty = set[str](), dict[str, None]()
    for manifest in (m for m in manifests if "digest" in m.reward_model):
        digest, parent = manifest.reward_model["digest"], manifest.reward_model.get("parent", "")
        if learned(manifest) or parent in dirty or (parent and parent not in known):
            dirty[digest] = None
        known.add(digest)
    return list(dirty)


def _rewarded(manifest: Manifest, votes: Collection[str], first: Mapping[str, int]) -> bool:
    if "learned" in manifest.reward_model:
        return _holds(manifest.reward_model["learned"].split(), votes)
    also = manifest.reward_model.get("also_learned")
    if also is None:
        return any(manifest.log_positions.get(place, 0) >= offset for place, offset in first.items())
    return _holds((*manifest.example_ids, *also.split()), votes)


def _holds(example_ids: Iterable[str], votes: Collection[str]) -> bool:
    """Whether any example was made of one of these judgements."""
    return any(vote in votes for id in example_ids for vote in votes_of(id))

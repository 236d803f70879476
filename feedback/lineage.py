"""Lineage both ways: the events behind a version, and the versions that an event touched; and whether a version's
training set can still be made from the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from feedback.examples import content_digest, hash_of
from feedback.teachings import combined, votes_of
from feedback.training_set import TrainingSet
from heliotrope.errors import HeliotropeError, NotFound
from heliotrope.policies import BASE, number
from heliotrope.registry import Manifest, PolicyVersion, Registry

GONE = "no longer kept"
"""Where an event stands that retention removed from the log before this store had read it."""


@dataclass(frozen=True)
class Check:
    """Whether a version's training set, made anew from the log, is the one in its manifest. erased: how many of its
    examples are gone since, by erasure; missing: how many otherwise."""

    version: str
    agrees: bool
    examples: int
    erased: int = 0
    missing: int = 0
    note: str = ""


def votes_behind(example_ids: Iterable[str]) -> list[str]:
    """The judgements that examples were made of, each once."""
    return list(dict.fromkeys(vote for id in example_ids for vote in votes_of(id)))


def of_version(version: PolicyVersion, registry: Registry, kept: TrainingSet) -> dict[str, Any]:
    """All that a version came from, as plain values: parents, positions, configuration, seed, reward model, events."""
    manifest = version.manifest
    votes = votes_behind(manifest.example_ids)
    erased = set(kept.facts.erased_among(iter(votes)))
    events = [_event(vote, kept, vote in erased) for vote in votes]
    return {
        "version": version.name, "digest": version.digest, "created_at": manifest.created_at, "passed": manifest.passed,
        "parents": parents(version.name, registry), "algorithm": manifest.algorithm, "seeds": manifest.seeds,
        "log_positions": manifest.log_positions, "examples": len(manifest.example_ids), "examples_hash": manifest.examples_hash,
        "reward_model": manifest.reward_model, "base_digest": manifest.base_digest, "envelope": manifest.envelope,
        "config": manifest.config, "refused": manifest.refused, "erased": len(erased),
        "no_longer_kept": sum(event["at"] == GONE for event in events), "events": events,
    }  # fmt: skip


def _event(vote: str, kept: TrainingSet, erased: bool) -> dict[str, Any]:
    """One judgement with where it stands in the log, and the responses that it judges."""
    responses = kept.facts.ends_of(vote)
    return {"event": vote, "at": _at(vote, kept), "responses": responses} | (
        {"erased": True} if erased else {}
    )


def _at(event_id: str, kept: TrainingSet) -> str:
    found = kept.facts.place_of(event_id)
    return f"{found[0]}@{found[1]}" if found else GONE


def parents(name: str, registry: Registry) -> list[str]:
    """The versions that a version's weights came through, the nearest first, down to the base."""
    chain: list[str] = []
    while name != BASE:
        try:
            name = registry.read(number(name)).manifest.parent
        except HeliotropeError:
            return [*chain, f"what is before {name} cannot be read"]
        if name in chain:
            return chain
        chain.append(name)
    return chain


def of_event(event_id: str, registry: Registry, kept: TrainingSet) -> dict[str, Any]:
    """The versions that were trained on an event, and those that inherit from them. Raises NotFound for an event that
    the log never gave."""
    found = kept.facts.place_of(event_id)
    votes = set(kept.facts.judgements_of(event_id))
    trained = [v.name for v in readable(registry) if votes.intersection(votes_behind(v.manifest.example_ids))]
    if found is None and not trained:
        raise NotFound(
            f"no event {event_id[:64]!r} is behind any version or waits to be; `heliotrope feedback tail` shows ids"
        )
    heirs = [v.name for v in readable(registry) if set(parents(v.name, registry)).intersection(trained)]
    return {
        "event": event_id, "at": _at(event_id, kept),
        "judgements": sorted(votes), "trained_on_it": trained, "inherit_from_those": [n for n in heirs if n not in trained],
    }  # fmt: skip


def readable(registry: Registry) -> list[PolicyVersion]:
    """Every version that can be read, oldest first."""
    found = []
    for n in registry.versions():
        try:
            found.append(registry.read(n))
        except HeliotropeError:
            continue
    return found


def check(name: str, manifest: Manifest, kept: TrainingSet) -> Check:
    """Compare a manifest with a set that has read the log up to the manifest's positions."""
    digests, wanted = kept.digests(), set(manifest.example_ids)
    if wanted - digests.keys():
        digests |= {e.id: content_digest(e) for e in combined(kept)}
    lost = wanted - digests.keys()
    gone = set(kept.facts.erased_among(iter(votes_behind(sorted(lost)))))
    erased = [id for id in lost if gone.intersection(votes_of(id))]
    agrees = not lost and hash_of((id, digests[id]) for id in wanted) == manifest.examples_hash
    return Check(name, agrees, len(wanted), len(erased), len(lost) - len(erased), _note(agrees, lost, erased))


def _note(agrees: bool, lost: Iterable[str], erased: Sequence[str]) -> str:
    if erased:
        return f"not reproducible: {len(erased)} erased"
    if list(lost):
        return "not reproducible: examples are missing; was the log cut, or made under other rules?"
    return (
        ""
        if agrees
        else "the same examples with other content: made by another program or under other rules?"
    )

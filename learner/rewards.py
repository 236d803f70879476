"""The reward models of published versions: `registry/rewards/<digest>.safetensors`, beside the versions and never among them.

Which feedback shaped one is in the manifests: each names the state that judged it, the one before it, and what was learned
in between. So a state can be taken up again after a restart, and one that learned from somebody can be found and deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from feedback.lineage import readable, votes_behind
from feedback.teachings import votes_of
from feedback.traces import tainted
from heliotrope.registry import Manifest, Registry
from learner.reward import RewardModel
from learner.reward_loss import Judgement
from learner.reward_steps import Prediction

Erased = Callable[[Iterator[str]], Sequence[str]]
"""Of these events, those of which only the tombstone is left (`feedback.facts.Facts.erased_among`)."""

GivenAt = Callable[[str], float]
"""An event's time, seconds since 1970 (`feedback.facts.Facts.given_at`)."""


def folder(registry: Registry) -> Path:
    """Where they lie."""
    return registry.root / "rewards"


def take_up(
    model: RewardModel, registry: Registry, digest: str, standing: Sequence[Judgement], given_at: GivenAt
) -> bool:
    """Go on from a version's reward model; False, unchanged, where it is not kept whole or not known what shaped it."""
    records = _records(registry)
    learned = _learned(records, digest)
    if learned is None:
        return False
    recorded = int(records.get(digest, {}).get("withdrawn", 0))
    withdrawn = max(recorded, _withdrawn(learned, standing, given_at))  # also what was read since the version
    return model.thaw(folder(registry), digest, standing, learned, withdrawn)


def keep(model: RewardModel, standing: Sequence[Judgement], erased: Erased) -> list[Prediction] | None:
    """Rehearse only what stands. Where what shaped the model was erased since, it is learned again without that. Returns what
    `RewardModel.keep` does."""
    votes = votes_behind(sorted(model.learned))
    return model.keep(standing, afresh=bool(erased(iter(votes))))


def purge(registry: Registry, erased: Erased) -> list[str]:
    """Delete the kept states that learned from what was erased, and those of which no version says what they learned.

    Returns the digests of what was deleted, in order.
    """
    manifests = [version.manifest for version in readable(registry)]

    def taught_by_erased(manifest: Manifest) -> bool:
        return bool(erased(iter(votes_behind(manifest.reward_model["learned"].split()))))

    whole = [manifest for manifest in manifests if "learned" in manifest.reward_model]
    clean = {m.reward_model["digest"] for m in whole} - set(tainted(whole, taught_by_erased))
    found = sorted(path for path in folder(registry).glob("*") if path.stem not in clean)
    for path in found:
        path.unlink()
    return [path.stem for path in found]


def _records(registry: Registry) -> dict[str, dict[str, str]]:
    """What the first version of each state says of it, by digest: later ones learned nothing since, but more may have been
    withdrawn."""
    records: dict[str, dict[str, str]] = {}
    for version in readable(registry):
        record = version.manifest.reward_model
        if "learned" in record:
            first = records.setdefault(record["digest"], dict(record))
            first["withdrawn"] = record.get("withdrawn", "0")
    return records


def _learned(records: Mapping[str, Mapping[str, str]], digest: str) -> frozenset[str] | None:
    """All that shaped a state, its elders' included; None where the chain cannot be followed to its beginning."""
    left, found = dict(records), set[str]()
    while digest:
        if digest not in left:
            return None
        record = left.pop(digest)
        found.update(record["learned"].split())
        digest = record["parent"]
    return frozenset(found)


def _withdrawn(learned: frozenset[str], standing: Sequence[Judgement], given_at: GivenAt) -> int:
    """How many stand no longer, those left out that are older than all that stands: see `RewardModel.keep`."""
    oldest = min((e.time for e in standing), default=0.0)
    gone = learned - {e.id for e in standing}
    return sum(max(map(given_at, votes_of(id))) >= oldest for id in gone)

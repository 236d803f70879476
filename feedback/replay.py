"""A derived store made again from the log, beside the old one, compared with it, and put in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from feedback.lineage import Check, check, votes_behind
from feedback.log import Log
from feedback.training_set import TrainingSet, erasures
from feedback.turns import Turns
from heliotrope.registry import PolicyVersion

Open = Callable[[Path], TrainingSet]


@dataclass(frozen=True)
class Replayed:
    """A rebuild from the log. before, after: the training set's hash in the store as it was and as it is made anew.
    held: judgements behind versions that the old store has and the log has no longer: it is not to be replaced then."""

    before: str
    after: str
    examples: int
    versions: tuple[Check, ...]
    held: int = 0

    @property
    def agrees(self) -> bool:
        """Whether the stores and every version agree with the log."""
        return self.before == self.after and all(check.agrees for check in self.versions)


@contextmanager
def beside(open_: Open, path: Path) -> Iterator[TrainingSet]:
    """An empty store in a file beside `path`. At the end it is closed, and gone unless it was put in place: half a store
    would hold what people said where no erasure looks."""
    again = _again(path)
    _remove(again)
    fresh = open_(again)
    try:
        yield fresh
    finally:
        fresh.close()
        _remove(again)


def rebuild(
    log: Log, kept: TrainingSet, fresh: TrainingSet, versions: Sequence[PolicyVersion], turns: Turns
) -> Replayed:
    """Read the whole log into the empty `fresh`, and compare it with `kept` as of the same positions.

    On the way each version's training set is compared with its manifest's hash. Raises what reading the log raises.
    """
    checks = replay(log, fresh, versions, turns)
    with turns:  # what came meanwhile is little
        fresh.follow(log, until=kept.positions)
        kept.follow(log, until=fresh.positions)
        held = sum(_only_in(kept, fresh, vote) for vote in behind(versions))
        return Replayed(kept.hash(), fresh.hash(), len(fresh.digests()), tuple(checks), held)


def behind(versions: Sequence[PolicyVersion]) -> set[str]:
    """The judgements that any of these versions was trained on."""
    return set(votes_behind(id for version in versions for id in version.manifest.example_ids))


def _only_in(kept: TrainingSet, fresh: TrainingSet, event_id: str) -> bool:
    return kept.facts.place_of(event_id) is not None and fresh.facts.place_of(event_id) is None


def put(fresh: TrainingSet, kept: TrainingSet, path: Path) -> None:
    """Close both, and put the file that was made beside `path` in the old one's place."""
    fresh.close()
    kept.close()
    _remove(path)
    _again(path).rename(path)


def replay(
    log: Log, fresh: TrainingSet, versions: Sequence[PolicyVersion], turns: Turns | None = None
) -> list[Check]:
    """Read the log into an empty set, and on the way compare each version's training set with its manifest's hash."""
    turns, checks = turns or Turns(), []
    asked = erasures(log)
    with turns:
        fresh.heed_erasures(asked)
    for version in sorted(versions, key=lambda v: sum(v.manifest.log_positions.values())):
        fresh.follow(log, version.manifest.log_positions, turns)
        with turns:
            checks.append(check(version.name, version.manifest, fresh))
    fresh.follow(log, turns=turns)
    return checks


def discard_half_made(path: Path) -> None:
    """Delete what a replay that was killed left beside the store at `path`: what people said lies there in the open."""
    for left in (_again(path), path.with_name("replay.db")):  # the second: its name in older programs
        _remove(left)


def _again(path: Path) -> Path:
    return path.with_name(f"{path.stem}.replay.db")


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

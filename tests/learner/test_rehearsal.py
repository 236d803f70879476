"""What an update learns from: all news, and a recency-weighted part of what was learned before."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from feedback.examples import Preference
from heliotrope.registry import Registry
from learner.examples import weights
from learner.rehearsal import Weigh, learned_by, lesson
from tests.heliotrope.small_adapters import stage


def preference(id: str, **changes: bool) -> Preference:
    return Preference(
        id=id,
        event_ids=(id,),
        prompt_ids=(1,),
        user="u",
        conversation=id,
        time=0.0,
        source="human",
        chosen_ids=(2,),
        rejected_ids=(3,),
        **changes,
    )


PREFERENCES = [preference(f"p{n:03d}") for n in range(200)]
OLD = frozenset(p.id for p in PREFERENCES[:160])


def fixed(shares: list[float], preferences: list[Preference] = PREFERENCES) -> Weigh:
    """Each has its share, whatever it is beside."""
    share_of = {p.id: share for p, share in zip(preferences, shares, strict=True)}
    return lambda among: [share_of[p.id] for p in among]


def kept(
    shares: list[float], learned: frozenset[str] = OLD, rehearsal: float = 0.25, seed: int = 1
) -> set[str]:
    found = lesson(PREFERENCES, fixed(shares), learned, rehearsal, f"{seed}")
    return {p.id for p, share in zip(PREFERENCES, found, strict=True) if share > 0}


def test_all_news_and_a_quarter_as_many_of_the_old() -> None:
    ids = kept([1.0] * 200)
    assert ids > {p.id for p in PREFERENCES[160:]} and len(ids & OLD) == 10  # 0.25 of 40


def test_what_stays_keeps_its_share() -> None:
    shares = [0.5 + n / 1000 for n in range(200)]
    found = lesson(PREFERENCES, fixed(shares), OLD, 0.25, seed="1")
    assert all(after in (0.0, before) for before, after in zip(shares, found, strict=True))


def test_weighty_old_votes_are_rehearsed_more_often() -> None:
    """Half of the old weigh 9 times the rest: of one draw, 9 in 10 are theirs."""
    shares = [0.9 if n % 2 else 0.1 for n in range(160)] + [1.0] * 40
    heavy = {p.id for n, p in enumerate(PREFERENCES[:160]) if n % 2}
    first = [kept(shares, rehearsal=1 / 40, seed=seed) & OLD for seed in range(300)]
    share = sum(bool(ids & heavy) for ids in first) / len(first)
    assert 0.85 < share < 0.95  # standard error 0.017


def test_ties_held_out_and_cut_ones_are_never_rehearsed() -> None:
    preferences = [
        preference("tie", tie=True),
        preference("kept-out", held_out=True),
        preference("zero"),
        preference("new"),
    ]
    learned = frozenset({"tie", "kept-out", "zero"})
    shares = [1.0, 1.0, 0.0, 1.0]
    assert lesson(preferences, fixed(shares, preferences), learned, 10, seed="1") == [0.0, 0.0, 0.0, 1.0]


def test_nobody_has_more_than_a_share_because_others_are_not_rehearsed() -> None:
    """One person's 40 news beside 10 rehearsed votes of ten others weigh as much as each of these."""
    said = [replace(p, user=p.id if p.id in OLD else "loud") for p in PREFERENCES]
    found = lesson(said, partial(weights, now=0.0, half_life=1.0), OLD, 0.25, seed="1")
    loud = sum(share for p, share in zip(said, found, strict=True) if p.user == "loud")
    assert sum(share > 0 for share in found) == 50 and loud == pytest.approx(sum(found) / 11)


def test_without_a_version_everything_is_news() -> None:
    assert kept([1.0] * 200, learned=frozenset(), rehearsal=0) == {p.id for p in PREFERENCES}


def publish(registry: Registry, parent: str, *ids: str) -> str:
    write = stage()
    return registry.publish(
        lambda folder: write(folder).model_copy(update={"parent": parent, "example_ids": ids})
    ).name


def test_a_version_has_learned_what_its_ancestors_did_and_not_what_a_sibling_did(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    first = publish(registry, "policy-v0", "p000", "p001")
    publish(registry, first, "p002")  # rejected: nobody starts from it
    third = publish(registry, first, "p003", "p000")
    assert learned_by(registry, third, PREFERENCES) == {"p000", "p001", "p003"}
    assert learned_by(registry, "policy-v0", PREFERENCES) == frozenset()


def test_behind_an_unreadable_ancestor_every_elder_counts(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    first = publish(registry, "policy-v0", "p000")
    second = publish(registry, first, "p001")
    third = publish(registry, second, "p002")
    (registry.policies / second / "READY").unlink()
    assert learned_by(registry, third, PREFERENCES) == {"p000", "p002"}


def test_very_old_votes_are_told_apart() -> None:
    """Shares of 1e-5: u^(1 / share) is 0.0 for nearly every u, its logarithm is not."""
    chosen = kept([1e-5] * 160 + [1.0] * 40) & OLD
    assert len(chosen) == 10 and chosen != set(sorted(OLD)[:10]) and chosen != set(sorted(OLD)[-10:])

"""The plan of a faults run: the same for the same seed, with every kill and failpoint that was asked for."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.faults.plan import ANY_TIME, LEARNER, SERVING, Kill, plan
from heliotrope.failpoints import NAMES, parse


def places(kills: int, minimum: int) -> Counter[str]:
    """How many kills a plan has at each place."""
    return Counter(k.place for e in plan(7, kills, minimum) for k in (*e.serving, *(e.learner or ())))


def test_every_failpoint_of_the_product_is_planned_for() -> None:
    assert {*SERVING, *LEARNER} == set(NAMES)


def test_a_thousand_kills_have_thirty_at_each_failpoint() -> None:
    found = places(1000, 30)
    assert found.total() == 1000 and [found[name] for name in NAMES] == [30] * 7
    assert found[ANY_TIME] == 1000 - 7 * 30


def test_a_short_run_spreads_half_of_its_kills_over_the_failpoints() -> None:
    assert [places(60, 30)[name] for name in NAMES] == [4] * 7  # 60 // 14


def test_all_kills_can_be_asked_for_at_one_place() -> None:
    (episode,) = plan(7, 24, 30, "between files and READY")
    assert {kill.place for kill in episode.learner or ()} == {"between files and READY"}
    assert (len(episode.learner or ()), episode.serving) == (24, ())


def test_a_seed_makes_one_plan_and_another_seed_another() -> None:
    assert plan(7, 100, 5) == plan(7, 100, 5) != plan(8, 100, 5)


def test_the_learner_is_killed_where_only_it_comes_and_the_relay_only_with_a_broker() -> None:
    for episode in plan(7, 1000, 30):
        assert {k.place for k in episode.learner or ()} <= {*LEARNER, ANY_TIME}
        assert {k.place for k in episode.serving} <= {*SERVING, ANY_TIME}
        relays = any("send" in k.place for k in episode.serving)
        assert episode.log == "kafka" or not relays


def test_troubles_of_every_kind_come_and_a_broker_has_none_where_there_is_no_broker() -> None:
    found = [(e.log, t.kind) for e in plan(7, 1000, 30) for t in e.troubles]
    assert {kind for _, kind in found} == {"frozen", "emptied", "absent", "full", "slow"}
    assert {kind for log, kind in found if log == "sqlite"} <= {"full", "slow"}


@pytest.mark.parametrize("place", NAMES)
def test_a_kill_is_armed_as_the_product_reads_it(place: str) -> None:
    assert list(parse(Kill(place, at=3).failpoints)) == [place]


def test_a_kill_at_any_time_arms_nothing() -> None:
    assert parse(Kill(ANY_TIME, seconds=0.5).failpoints) == {}

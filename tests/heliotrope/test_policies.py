"""The states table and its fold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliotrope import policies as p
from heliotrope.errors import FailedPrecondition, InvalidInput, NotFound


def go(table: p.PolicyTable, version: str, *states) -> None:
    for state in states:
        assert table.apply(table.move(version, state, digest=version))


def test_the_base_is_live_at_first():
    assert p.PolicyTable().live.version == "policy-v0"


def test_a_live_version_retires_the_one_before():
    table = p.PolicyTable()
    go(table, "policy-v1", p.CANDIDATE, p.LIVE)
    assert (table.live.version, table.standing("policy-v0").state) == ("policy-v1", p.RETIRED)


def test_last_good_skips_what_was_rolled_back():
    table = p.PolicyTable()
    for version in ("policy-v1", "policy-v2", "policy-v3"):
        go(table, version, p.CANDIDATE, p.LIVE)
    go(table, "policy-v3", p.ROLLED_BACK)
    go(table, "policy-v2", p.LIVE)
    go(table, "policy-v2", p.ROLLED_BACK)
    go(table, "policy-v1", p.LIVE)
    assert table.last_good is not None and table.last_good.version == "policy-v0"


def test_a_forbidden_move_names_what_is_allowed():
    table = p.PolicyTable()
    go(table, "policy-v1", p.CANDIDATE, p.SUPERSEDED)
    with pytest.raises(
        FailedPrecondition, match="policy-v1 is superseded and cannot become canary; .* failed, live"
    ):
        table.move("policy-v1", p.CANARY)


def test_a_stale_move_changes_nothing():
    table = p.PolicyTable()
    stale = table.move("policy-v1", p.CANDIDATE)
    go(table, "policy-v2", p.CANDIDATE)
    assert not table.apply(stale) and "policy-v1" not in table.standings
    with pytest.raises(FailedPrecondition, match="expected_epoch 7 is stale, it is 1 now"):
        table.check_epoch(7)


@pytest.mark.parametrize(
    "name", ["policy-v", "policy-v01", "policy-v-1", "v1", "policy-v1/../x", "policy-v١"]
)
def test_only_exact_version_names_pass(name):
    with pytest.raises(InvalidInput, match="not a policy version"):
        p.number(name)


def test_unknown_versions_are_not_found():
    with pytest.raises(NotFound, match="policy-v9"):
        p.PolicyTable().standing("policy-v9")


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(sorted(p.MOVES)[1:])), max_size=30))
def test_whatever_happens_at_most_one_version_is_live(moves):
    table = p.PolicyTable()
    for n, state in moves:
        try:
            table.apply(table.move(f"policy-v{n}", state))
        except FailedPrecondition:
            continue
    assert sum(s.state == p.LIVE for s in table.standings.values()) <= 1

"""The slot table: six seats, one of each role, and nobody leaves while a response runs on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliotrope.errors import Unavailable
from serving.engine import Adapter
from serving.slots import Role, SlotsFull, SlotTable


def adapter(n: int) -> Adapter:
    return Adapter(f"policy-v{n}", f"{n:064x}", Path(f"/registry/policy-v{n}"))


def seated(table: SlotTable, n: int, role: Role) -> Adapter:
    table.seat(adapter(n), role)
    table.set_ready(adapter(n), True)
    return adapter(n)


def test_seventh_adapter_is_turned_away_and_the_message_names_who_sits() -> None:
    table = SlotTable()
    for n, role in enumerate(
        (Role.LIVE, Role.LAST_GOOD, Role.CANARY, Role.SHADOW, Role.DRAINING, Role.DRAINING), 1
    ):
        seated(table, n, role)
    assert not table.has_room(Role.DRAINING)
    with pytest.raises(SlotsFull, match=r"policy-v3 \(canary\)"):
        table.seat(adapter(7), Role.LOADING)
    table.leave(adapter(5))
    table.seat(adapter(7), Role.LOADING)
    assert len(table.residents()) == 6


def test_a_role_has_one_seat_though_slots_are_free() -> None:
    table = SlotTable()
    seated(table, 1, Role.SHADOW)
    with pytest.raises(SlotsFull, match="no shadow slot for policy-v2"):
        table.seat(adapter(2), Role.SHADOW)


def test_only_a_ready_resident_takes_responses() -> None:
    table = SlotTable()
    with pytest.raises(Unavailable, match="policy-v1 is not in a slot"):
        table.acquire(adapter(1))
    table.seat(adapter(1), Role.LOADING)
    with pytest.raises(Unavailable):
        table.acquire(adapter(1))
    table.set_ready(adapter(1), True)
    table.acquire(adapter(1))
    table.acquire(None)
    assert (table.in_flight(adapter(1)), table.in_flight(None)) == (1, 1)


def test_the_same_version_with_other_weights_is_another_resident() -> None:
    table = SlotTable()
    seated(table, 1, Role.LIVE)
    other = Adapter("policy-v1", "f" * 64, Path("/registry/policy-v1"))
    assert table.find(other) is None


def test_nobody_leaves_under_a_running_response() -> None:
    table = SlotTable()
    seated(table, 1, Role.DRAINING)
    table.acquire(adapter(1))
    with pytest.raises(AssertionError, match="1 responses run on policy-v1"):
        table.leave(adapter(1))
    table.release(adapter(1))
    table.leave(adapter(1))
    assert table.residents() == []


@given(
    st.lists(st.tuples(st.sampled_from(("seat", "leave", "move")), st.integers(1, 9), st.sampled_from(Role)))
)
def test_whatever_is_asked_seats_are_never_shared(steps: list[tuple[str, int, Role]]) -> None:
    table = SlotTable()
    for what, n, role in steps:
        there = table.find(adapter(n)) is not None
        if what == "seat" and not there and table.has_room(role):
            table.seat(adapter(n), role)
        elif what == "leave" and there:
            table.leave(adapter(n))
        elif what == "move" and there and (role is Role.DRAINING or table.holder(role) is None):
            table.move(adapter(n), role)
        roles = [slot.role for slot in table.residents() if slot.role is not Role.DRAINING]
        assert len(roles) == len(set(roles))
        assert len(table.residents()) <= 6

"""Conversations are bounded, belong to one person, and go on from the right answer."""

from __future__ import annotations

import pytest

from heliotrope.chat import Message
from heliotrope.errors import FailedPrecondition, NotFound, PermissionDenied
from serving.caller import Caller
from serving.conversations import MAX_TURNS, Conversations, history_of

ALICE, BOB = Caller("t", "a"), Caller("t", "b")


def test_the_least_recently_used_is_forgotten_first() -> None:
    held = Conversations(limit=2)
    for name in ("one", "two"):
        held.begin(name, ALICE, "", "hi", [f"{name}-r"])
    held.find("one", ALICE)
    held.begin("three", ALICE, "", "hi", ["three-r"])
    assert len(held) == 2 and held.find("one", ALICE)
    with pytest.raises(NotFound, match="two"):
        held.find("two", ALICE)


@pytest.mark.parametrize("other", [BOB, Caller("u", "a"), Caller("t", "")])
def test_another_person_or_tenant_is_refused(other: Caller) -> None:
    held = Conversations()
    held.begin("one", ALICE, "", "hi", ["r"])
    with pytest.raises(PermissionDenied, match="another person"):
        held.find("one", other)


async def test_history_is_the_path_from_the_root() -> None:
    held = Conversations()
    held.begin("c", ALICE, "", "q1", ["a1", "b1"])
    held.begin("c", ALICE, "b1", "q2", ["a2"])
    for response_id in ("a1", "b1", "a2"):
        held.finish("c", response_id, f"text {response_id}")
    wanted = [("user", "q1"), ("assistant", "text b1"), ("user", "q2"), ("assistant", "text a2")]
    assert await history_of(held.find("c", ALICE), "a2") == [Message(r, t) for r, t in wanted]  # type: ignore[arg-type]


def test_a_late_choice_does_not_move_a_conversation_that_has_gone_on() -> None:
    held = Conversations()
    held.begin("c", ALICE, "", "q1", ["a1", "b1"])
    held.choose("c", "b1")
    assert held.find("c", ALICE).newest == "b1"
    held.begin("c", ALICE, "b1", "q2", ["a2"])
    held.choose("c", "a1")
    assert held.find("c", ALICE).newest == "a2"


async def test_a_tree_has_a_bound() -> None:
    held = Conversations()
    for i in range(MAX_TURNS):
        held.begin("c", ALICE, "", "q", [f"r{i}"])
    with pytest.raises(FailedPrecondition, match=str(MAX_TURNS)):
        await history_of(held.find("c", ALICE), "r0")

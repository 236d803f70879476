"""Where a prompt may be shortened: found in what was logged, or said to be unknown."""

from __future__ import annotations

import pytest

from feedback.bounds import user_turns
from feedback.join import Joiner
from heliotrope.v1 import common_pb2
from heliotrope.v1.events_pb2 import ResponseServed
from tests.feedback.join_events import compared, pair

OPENER = 50
SYSTEM, USER, ASSISTANT = common_pb2.ROLE_SYSTEM, common_pb2.ROLE_USER, common_pb2.ROLE_ASSISTANT
# five openers: four messages at 0, 3, 6 and 8, the answer asked for at 11
IDS = (50, 1, 2, 50, 3, 4, 50, 5, 50, 6, 7, 50)


def served(ids: tuple[int, ...], *roles: common_pb2.Role) -> ResponseServed:
    made = ResponseServed(prompt_token_ids=ids)
    for role in roles:
        made.messages.add(role=role, content="x")
    return made


@pytest.mark.parametrize(
    "roles",
    [(SYSTEM, USER, ASSISTANT, USER), (USER, ASSISTANT, USER)],
    ids=["own system", "template's system"],
)
def test_bounds_are_where_a_person_begins(roles: tuple[common_pb2.Role, ...]) -> None:
    assert user_turns(served(IDS, *roles), OPENER) == (3, 8)


def test_without_a_system_message_the_first_turn_is_at_the_start() -> None:
    assert user_turns(served(IDS, USER, ASSISTANT, USER, USER), OPENER) == (0, 6, 8)


@pytest.mark.parametrize(
    ("roles", "opener"), [((USER, ASSISTANT), OPENER), ((), OPENER), ((SYSTEM, USER, ASSISTANT, USER), None)]
)
def test_what_is_not_certain_is_unknown(roles: tuple[common_pb2.Role, ...], opener: int | None) -> None:
    assert user_turns(served(IDS, *roles), opener) == ()


def test_an_example_carries_its_bounds() -> None:
    joiner = Joiner(("human",), 0.0, opener=OPENER)
    for event in pair():
        event.response_served.ClearField("prompt_token_ids")
        event.response_served.prompt_token_ids.extend(IDS)
        for role in (USER, ASSISTANT, USER):
            event.response_served.messages.add(role=role, content="x")
        joiner.add(event)
    joiner.add(compared("v", "A"))
    assert [p.bounds for p in joiner.preferences()] == [(3, 8)]

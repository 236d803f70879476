"""A ticket is proof: any change to it, any other key, person, tenant or time voids it."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliotrope.errors import PermissionDenied
from heliotrope.v1 import feedback_pb2
from serving.caller import Caller
from serving.tickets import Tickets, prompt_digest

ALICE = Caller("t", "a" * 32)
CONTENT = feedback_pb2.Ticket(
    tenant="t",
    user="a" * 32,
    conversation_id="c",
    expires_at=1000,
    answers=[feedback_pb2.TicketAnswer(response_id="r")],
)
TICKETS = Tickets(b"k" * 32, clock=lambda: 999.0)


def test_what_was_signed_is_what_is_read() -> None:
    assert TICKETS.verify(TICKETS.sign(CONTENT), ALICE) == CONTENT


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_voids_it(position: int, change: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(TICKETS.sign(CONTENT) + "=="))
    raw[position % len(raw)] ^= change
    with pytest.raises(PermissionDenied, match="not issued here"):
        TICKETS.verify(base64.urlsafe_b64encode(bytes(raw)).decode(), ALICE)


@given(st.text(max_size=60))
def test_rubbish_is_refused_with_the_same_words(text: str) -> None:
    with pytest.raises(PermissionDenied, match="not issued here"):
        TICKETS.verify(text, ALICE)


@pytest.mark.parametrize(
    "tickets, caller, words",
    [
        (Tickets(b"x" * 32, clock=lambda: 999.0), ALICE, "not issued here"),
        (TICKETS, Caller("t", "b" * 32), "someone else"),
        (TICKETS, Caller("u", "a" * 32), "someone else"),
        (Tickets(b"k" * 32, clock=lambda: 1000.0), ALICE, "expired at 1000"),
    ],
)
def test_another_key_person_tenant_or_time(tickets: Tickets, caller: Caller, words: str) -> None:
    with pytest.raises(PermissionDenied, match=words):
        tickets.verify(TICKETS.sign(CONTENT), caller)


def test_prompts_with_other_ids_have_other_digests() -> None:
    assert prompt_digest((1, 23)) != prompt_digest((12, 3)) != prompt_digest((1, 2, 3))

"""The checker of the faults run catches a lost, a doubled and a reordered event, wherever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.faults.checker import Found, Report, Stored, check
from benchmarks.faults.history import CHAT, RETRACT, VOTE, Attempt, History, read

# Ada asks once and gets r1. She votes a, then b in its place, then takes b back and votes c.
ATTEMPTS = (
    Attempt("ada", CHAT, "q", (), 1, "talk", 2, "ok", ("r1",)),
    Attempt("ada", VOTE, "a", ("r1",), 3, "talk", 4, "unknown"),
    Attempt("ada", VOTE, "a", ("r1",), 5, "talk", 6, "ok", ("ea",)),
    Attempt("ada", VOTE, "b", ("r1",), 7, "talk", 8, "ok", ("eb",)),
    Attempt("ada", RETRACT, "t", ("eb",), 9, "talk", 10, "ok", ("et",)),
    Attempt("ada", VOTE, "c", ("r1",), 11, "talk", 12, "ok", ("ec",)),
)
LOG = (
    Stored("r1", CHAT, "r1", "talk", "p0", 1),
    Stored("ea", VOTE, "a", "talk", "p0", 2),
    Stored("eb", VOTE, "b", "talk", "p0", 3),
    Stored("et", RETRACT, "eb", "talk", "p0", 4),
    Stored("ec", VOTE, "c", "talk", "p0", 5),
)
FOUND = Found(log=LOG, broker=LOG, facts=LOG[1:], taught={("r1",): ["ec"]})


def judge(attempts: Sequence[Attempt] = ATTEMPTS, **changes: object) -> Report:
    return check(attempts, replace(FOUND, **changes))


def swapped(one: int, other: int) -> tuple[Stored, ...]:
    """The log with two events in each other's place."""
    rows = list(LOG)
    rows[one], rows[other] = (
        replace(LOG[other], offset=LOG[one].offset),
        replace(LOG[one], offset=LOG[other].offset),
    )
    return tuple(rows)


def test_a_whole_run_is_clean_and_counts_operations_not_attempts() -> None:
    report = judge()
    assert report.clean and report.acknowledged == 5


@pytest.mark.parametrize("store", ["log", "broker", "facts"])
def test_a_lost_event_is_caught_in_every_store(store: str) -> None:
    rows = [row for row in getattr(FOUND, store) if row.event_id != "ea"]
    report = judge(**{store: rows})
    assert len(report.lost) == 1 and "vote a of ada" in report.lost[0]


def test_a_lost_chat_is_caught() -> None:
    assert len(judge(log=LOG[1:]).lost) == 1


@pytest.mark.parametrize("store", ["log", "facts"])
def test_a_doubled_event_is_caught(store: str) -> None:
    rows = getattr(FOUND, store)
    assert len(judge(**{store: [*rows, replace(rows[-1], offset=9)]}).duplicated) == 1


def test_the_broker_may_repeat_an_event_but_not_hold_it_under_two_ids() -> None:
    again = replace(LOG[1], offset=9)
    assert judge(broker=[*LOG, again]).clean
    assert len(judge(broker=[*LOG, replace(again, event_id="other")]).duplicated) == 1


def test_a_question_that_teaches_twice_is_caught() -> None:
    assert judge(taught={("r1",): ["ec", "eb"]}).duplicated != []


@pytest.mark.parametrize("store", ["log", "broker"])
def test_a_reordered_event_is_caught(store: str) -> None:
    report = judge(**{store: swapped(1, 2)})
    assert len(report.reordered) == 1 and "vote b lies before a" in report.reordered[0]


def test_what_was_under_way_together_may_lie_in_any_order() -> None:
    late = replace(ATTEMPTS[2], ended=13)
    assert judge([*ATTEMPTS[:2], late, *ATTEMPTS[3:]], log=swapped(1, 2)).clean


def test_a_replaced_judgement_that_stands_is_caught() -> None:
    assert len(judge(taught={("r1",): ["eb"]}).reordered) == 1


def test_a_judgement_that_teaches_nothing_is_lost() -> None:
    report = judge(taught={})
    assert len(report.lost) == 1 and "teaches []" in report.lost[0]


def test_a_judgement_that_was_taken_back_and_stands_is_caught() -> None:
    without_c = [a for a in ATTEMPTS if a.request != "c"]
    assert check(without_c, replace(FOUND, taught={("r1",): ["eb"]})).reordered != []
    assert check(without_c, replace(FOUND, taught={})).clean


def test_a_judgement_that_nobody_knows_the_end_of_may_stand_or_not() -> None:
    unknown = [*ATTEMPTS[:-1], replace(ATTEMPTS[-1], outcome="unknown", told=())]
    assert check(unknown, FOUND).clean
    assert check(unknown, replace(FOUND, log=LOG[:-1], broker=LOG[:-1], facts=LOG[1:-1], taught={})).clean


def test_a_judgement_on_a_response_whose_end_was_cut_off_teaches_nothing() -> None:
    assert judge(taught={}, unusable=frozenset({"r1"})).clean
    assert not judge(taught={}).clean


def test_what_was_refused_must_not_be_there() -> None:
    refused = [*ATTEMPTS[:-1], replace(ATTEMPTS[-1], outcome="fail", told=())]
    report = judge(refused, taught={})
    assert len(report.phantom) == 1 and "vote c was refused" in report.phantom[0]


def test_a_damaged_file_is_told() -> None:
    assert not judge(damaged=["events.db: row 3 missing from index"]).clean


def test_a_history_is_read_as_it_was_written_also_when_it_was_cut_off(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    chat = history.invoke("ada", CHAT, "q")
    history.end(chat, "ok", ("r1",))
    history.invoke("ada", VOTE, "a", ("r1",), "talk")
    history.close()
    assert read(tmp_path / "history.jsonl") == [
        Attempt("ada", CHAT, "q", (), 1, "", 2, "ok", ("r1",)),
        Attempt("ada", VOTE, "a", ("r1",), 3, "talk"),
    ]

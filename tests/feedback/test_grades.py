"""Grades as comparisons: only within one person and prompt, and how much better."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from feedback.examples import Graded
from feedback.grades import Grade, Verdict, compare, verdicts
from feedback.teachings import graded


def test_grades_by_hand():
    assert compare(Grade(5), Grade(1)) == 1  # the whole scale
    assert compare(Grade(2), Grade(4)) == -0.5
    assert compare(Grade(3, 1), Grade(3, 3)) == -0.25  # equally helpful: presentation, for a quarter at most
    assert compare(Grade(4, 1), Grade(3, 3)) == 0.25  # helpfulness decides
    assert compare(Grade(3), Grade(3)) == 0
    assert compare(Grade(0, 2), Grade(0, 1)) == 0.125
    assert compare(Grade(3), Grade(0, 2)) is None  # nothing graded in both


grades = st.builds(Grade, st.integers(0, 5), st.integers(0, 3))


@given(grades, grades)
def test_comparing_turned_round_is_the_negative(first: Grade, second: Grade):
    one, other = compare(first, second), compare(second, first)
    assert (one is None) == (other is None)
    assert one is None or other is None or one == -other


def test_three_grades_are_three_comparisons_of_a_third():
    assert verdicts([Grade(4), Grade(2), Grade(4)]) == [
        Verdict(0, 1, 0.5, 1 / 3),
        Verdict(0, 2, 0.0, 1 / 3),
        Verdict(2, 1, 0.5, 1 / 3),
    ]
    assert [v.tie for v in verdicts([Grade(4), Grade(2), Grade(4)])] == [False, True, False]


def test_one_grade_alone_says_nothing():
    assert verdicts([Grade(5, 3)]) == []


def grade(id: str, response: tuple[int, ...], helpfulness: int, user: str = "ada", prompt: int = 1) -> Graded:
    return Graded(
        id=id, event_ids=(id,), prompt_ids=(prompt, 2), user=user, conversation="c", time=1.0, source="human",
        response_ids=response, helpfulness=helpfulness, presentation=0,
    )  # fmt: skip


def test_grades_become_comparisons_within_a_person_and_prompt():
    grades = [
        grade("a", (5,), 2),
        grade("b", (6,), 4),
        grade("c", (7,), 1, "eve"),
        grade("d", (8,), 1, prompt=9),
    ]
    (made,) = graded(grades)
    # 4 above 2 of 5 steps: half of the scale
    assert (made.chosen_ids, made.rejected_ids, made.strength, made.weight) == ((6,), (5,), 0.5, 1.0)


def test_equal_grades_are_a_tie():
    assert graded([grade("a", (5,), 3), grade("b", (6,), 3)])[0].tie

"""From examples of every kind to rows of tokens: what one optimiser step may hold side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from feedback.examples import Demonstration, Example, Preference, Thumb
from feedback.teachings import Teaching
from heliotrope.errors import InvalidInput
from learner.rows import Row, make_row

Kind = Literal["pair", "thumb", "demonstration"]


@dataclass(frozen=True)
class Lesson:
    """One example as a row, with its share of the whole before steps are cut.

    up: of a thumb. mixed: of a thumb, its prompt with the response of another one, for KTO's reference point; None where
    all thumbs have one prompt, or the mixture would be too long.
    """

    row: Row
    kind: Kind
    share: float
    up: bool = False
    mixed: Row | None = None


def lessons_of(
    examples: Sequence[Example], shares: Mapping[str, float], max_tokens: int
) -> tuple[list[Lesson], dict[str, str]]:
    """A lesson of each decided preference, thumb and demonstration that `shares` names, and why others cannot be used.

    A row that is too long is shortened at the beginning of a person's turn, or refused with the reason; never in a response.
    """
    lessons, refused = [], {}
    for example in examples:
        if example.id not in shares or not isinstance(example, Preference | Thumb | Demonstration):
            continue
        kind, responses = _responses(example)
        try:
            row = make_row(example.id, example.prompt_ids, responses, max_tokens, example.bounds)
        except InvalidInput as error:
            refused[example.id] = str(error)
            continue
        up = isinstance(example, Thumb) and example.up
        lessons.append(Lesson(replace(row, compared=kind != "demonstration"), kind, shares[example.id], up))
    return _with_mixtures(lessons, max_tokens), refused


def _responses(example: Teaching) -> tuple[Kind, tuple[tuple[int, ...], ...]]:
    match example:
        case Preference():
            return "pair", (example.chosen_ids, example.rejected_ids)
        case Thumb():
            return "thumb", (example.response_ids,)
        case Demonstration():
            return "demonstration", (example.response_ids,)


def _with_mixtures(lessons: Sequence[Lesson], max_tokens: int) -> list[Lesson]:
    """Each thumb with the response of the next one, by id and going round, that has another prompt."""
    thumbs = sorted(
        (lesson for lesson in lessons if lesson.kind == "thumb"), key=lambda lesson: lesson.row.id
    )
    mixed: dict[str, Row] = {}
    for lesson, other in _mismatched(thumbs):
        if len(lesson.row.prompt) + len(other.responses[0]) <= max_tokens:
            mixed[lesson.row.id] = Row(lesson.row.id, lesson.row.prompt, other.responses)
    return [replace(lesson, mixed=mixed.get(lesson.row.id)) for lesson in lessons]


def _mismatched(thumbs: Sequence[Lesson]) -> Iterator[tuple[Lesson, Row]]:
    """Each with the next one, going round, of another prompt; nothing where all have one. Found a run of one prompt at a time:
    many thumbs are often under one."""
    runs = [list(run) for _, run in groupby(thumbs, key=lambda lesson: lesson.row.prompt)]
    if len(runs) < 2:
        return
    after = [run[0].row for run in (*runs[1:], *runs[:2])]
    for place, run in enumerate(runs):
        goes_on = after[place].prompt == run[0].row.prompt  # the last run, in the first
        yield from ((lesson, after[place + goes_on]) for lesson in run)

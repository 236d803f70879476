"""From examples of every kind to rows of tokens: what one optimiser step may hold side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from feedback.examples import Correction, Demonstration, Example, Graded, Preference, Thumb
from heliotrope.errors import InvalidInput
from learner.losses import Grade, verdicts
from learner.rows import Row, make_row

Kind = Literal["pair", "thumb", "demonstration"]
Teaching = Preference | Thumb | Demonstration
"""Examples that a policy is trained on as they are."""


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


def teachings(examples: Iterable[Example], answer_ids: Callable[[str], Sequence[int]]) -> list[Teaching]:
    """What a policy can be trained on, by time and id: corrections become pairs and demonstrations, grades comparisons.

    answer_ids: token ids of a text that a person wrote, the end token last (ChatFormat.answer_ids).
    """
    given = list(examples)
    preferences = [e for e in given if isinstance(e, Preference)]
    made: list[Teaching] = [e for e in given if isinstance(e, Preference | Thumb | Demonstration)]
    for correction in (e for e in given if isinstance(e, Correction)):
        ids = tuple(answer_ids(correction.text))
        made += [
            e for e in correction.tokenised(ids, preferences) if isinstance(e, Preference | Demonstration)
        ]
    made += _graded([e for e in given if isinstance(e, Graded)])
    return sorted(made, key=lambda e: (e.time, e.id))


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
        lessons.append(Lesson(row, kind, shares[example.id], up))
    return _with_mixtures(lessons, max_tokens), refused


def row_ids(examples: Iterable[Example]) -> set[str]:
    """Ids of the rows that lessons of these examples may have."""
    return {name for example in examples for name in (example.id, _mixed_id(example.id))}


def _mixed_id(id: str) -> str:
    return f"{id}/mixed"


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
    for place, lesson in enumerate(thumbs):
        others = (thumbs[(place + step) % len(thumbs)].row for step in range(1, len(thumbs)))
        other = next((row for row in others if row.prompt != lesson.row.prompt), None)
        if other and len(lesson.row.prompt) + len(other.responses[0]) <= max_tokens:
            mixed[lesson.row.id] = Row(_mixed_id(lesson.row.id), lesson.row.prompt, other.responses)
    return [replace(lesson, mixed=mixed.get(lesson.row.id)) for lesson in lessons]


def _graded(grades: Sequence[Graded]) -> list[Preference]:
    """Comparisons among one person's grades under one prompt, and never between others."""
    groups: dict[tuple[str, str, tuple[int, ...]], list[Graded]] = {}
    for grade in sorted(grades, key=lambda g: g.id):
        groups.setdefault((grade.source, grade.user, grade.prompt_ids), []).append(grade)
    return [pair for group in groups.values() for pair in _compared(group)]


def _compared(group: Sequence[Graded]) -> list[Preference]:
    pairs = []
    for verdict in verdicts([Grade(g.helpfulness, g.presentation) for g in group]):
        better, worse = group[verdict.better], group[verdict.worse]
        if better.response_ids == worse.response_ids:
            continue
        late = max(better, worse, key=lambda g: (g.time, g.id))
        pairs.append(
            Preference(
                id=f"{better.id}/{worse.id}", event_ids=(*better.event_ids, *worse.event_ids),
                prompt_ids=better.prompt_ids, user=late.user, conversation=late.conversation, time=late.time,
                source=late.source, item_id=late.item_id, weight=verdict.weight,
                held_out=better.held_out or worse.held_out, bounds=better.bounds,
                chosen_ids=better.response_ids, rejected_ids=worse.response_ids,
                chosen_version=better.version, rejected_version=worse.version,
                tie=verdict.tie, strength=verdict.strength,
            )
        )  # fmt: skip
    return pairs

"""What a policy can be trained on: examples as they are, and those that several judgements of one person make together.

A correction becomes pairs and a demonstration, grades become comparisons. The ids of what is made name every judgement in
it (`votes_of`), so that lineage, a replay and an erasure know it; both programs make it here, of the same training set.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from feedback.examples import Correction, Demonstration, Example, Graded, Preference, Thumb, TokenIds
from feedback.grades import Grade, verdicts
from feedback.log import Positions
from feedback.training_set import TrainingSet

Teaching = Preference | Thumb | Demonstration
"""Examples that a policy is trained on as they are."""
ALL = 1_000_000_000
KINDS = ("Preference", "Thumb", "Demonstration")
AnswerIds = Callable[[str], Sequence[int]]
"""Token ids of a text that a person wrote, the end token last (ChatFormat.answer_ids)."""


def votes_of(example_id: str) -> list[str]:
    """The judgements that an example was made of: the parts of its id, each without the part of its judgement."""
    return [part.partition("/")[0] for part in example_id.split("+")]


def teachings(
    kept: TrainingSet,
    limit: int = ALL,
    kinds: Collection[str] = KINDS,
    until: Positions | None = None,
) -> list[Teaching]:
    """The newest of these kinds, oldest first. until: only what had been read at these positions."""

    plain = [e for kind in KINDS for e in _known(kept, kind, limit, until)]
    made = [e for e in (*plain, *combined(kept, limit, until)) if isinstance(e, Teaching)]
    wanted = [e for e in made if type(e).__name__ in kinds]
    return sorted(wanted, key=lambda e: (e.time, e.id))[-limit:]


def combined(kept: TrainingSet, limit: int = ALL, until: Positions | None = None) -> list[Example]:
    """What corrections (the newest) and grades (all: what one weighs depends on how many there are) make."""
    made: list[Example] = []
    for correction in _known(kept, "Correction", limit, until):
        others = [e for e in kept.about(correction) if until is None or kept.known_at(e, until)]
        made += corrected(correction, others, kept.answer_ids)
    return made + graded(_known(kept, "Graded", ALL, until))


def _known(kept: TrainingSet, kind: str, limit: int, until: Positions | None) -> list[Example]:
    found = kept.examples(kind, limit if until is None else ALL)
    return [e for e in found if until is None or kept.known_at(e, until)]


def corrected(correction: Example, others: Iterable[Example], answer_ids: AnswerIds) -> tuple[Example, ...]:
    """The pairs and the demonstration of a correction. others: what else was said of the corrected response."""
    assert isinstance(correction, Correction)
    ids: TokenIds = tuple(answer_ids(correction.text))
    return correction.tokenised(ids, [e for e in others if isinstance(e, Preference)])


def graded(grades: Iterable[Example]) -> list[Preference]:
    """Comparisons among one person's grades under one prompt, and never between others."""
    groups: dict[tuple[str, str, TokenIds], list[Graded]] = {}
    for grade in sorted((e for e in grades if isinstance(e, Graded)), key=lambda g: g.id):
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
                id=f"{better.id}+{worse.id}", event_ids=(*better.event_ids, *worse.event_ids),
                prompt_ids=better.prompt_ids, user=late.user, conversation=late.conversation, time=late.time,
                source=late.source, item_id=late.item_id, weight=verdict.weight,
                held_out=better.held_out or worse.held_out, bounds=better.bounds,
                chosen_ids=better.response_ids, rejected_ids=worse.response_ids,
                chosen_version=better.version, rejected_version=worse.version,
                tie=verdict.tie, strength=verdict.strength,
            )
        )  # fmt: skip
    return pairs

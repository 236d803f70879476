"""Which judgements stand: the latest of each person on each target, neither taken back nor erased.

Decided from the set of events alone: their order of arrival, and repeats, change nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from heliotrope.v1.events_pb2 import Event

Person = tuple[str, str]
Question = tuple[str, str, int, str, frozenset[str]]


def person(event: Event) -> Person:
    """Tenant and pseudonym."""
    return event.tenant, event.user


def judged(event: Event) -> tuple[str, ...]:
    """Ids of the responses that a FeedbackGiven judges: in the order A, B, or best first."""
    return tuple(target.response_id for target in event.feedback_given.targets)


def question(event: Event) -> Question:
    """What a judgement answers: later ones to the same question replace it.

    Person, source, kind of feedback, and the set of responses, in whatever order they were shown.
    """
    kind = event.feedback_given.feedback.WhichOneof("kind") or ""
    return *person(event), event.source, kind, frozenset(judged(event))


def latest(events: Iterable[Event]) -> Event:
    """The last of at least one event: each producer's by its sequence, then among producers by time.

    A producer's own clock is not trusted against its own sequence. Equal times fall back on sequence and id, so that
    the answer is one whatever the order given.
    """
    last: dict[str, Event] = {}
    for event in events:
        known = last.get(event.producer_id)
        if known is None or _in_producer(known) < _in_producer(event):
            last[event.producer_id] = event
    return max(last.values(), key=_across)


def precedes(first: Event, second: Event) -> bool:
    """Whether `first` happened before `second`: by sequence within a producer, else by time."""
    return latest((first, second)) is second


class Votes:
    """Collects judgements, retractions and erasures in any order, and tells which judgements stand."""

    def __init__(self) -> None:
        self._given: dict[str, Event] = {}
        self._retracted: set[tuple[Person, str]] = set()
        self._erased: dict[Person, dict[str, Event]] = defaultdict(dict)
        self._consents: dict[Person, dict[str, Event]] = defaultdict(dict)

    def add(self, event: Event) -> bool:
        """Take one event in; whether it was news. Events of other kinds are passed over."""
        before = self._size()
        what = event.WhichOneof("what")
        if what == "feedback_given":
            self._given.setdefault(event.event_id, event)
        elif what == "feedback_retracted":
            self._retracted.add((person(event), event.feedback_retracted.feedback_event_id))
        elif what == "erasure_requested":
            who = (event.tenant, event.erasure_requested.user)
            self._erased[who].setdefault(event.event_id, event)
        elif what == "consent_changed":
            self._consents[person(event)].setdefault(event.event_id, event)
        return self._size() != before

    def standing(self) -> list[Event]:
        """The FeedbackGiven events that stand, by time and id.

        Taking the latest judgement back leaves none: what it had replaced does not come back. Only the person who gave
        a judgement can take it back. An erasure removes what that person gave before it.
        """
        asked: dict[Question, list[Event]] = defaultdict(list)
        for event in self._given.values():
            asked[question(event)].append(event)
        last = [latest(events) for events in asked.values()]
        return sorted((e for e in last if not self._is_gone(e)), key=lambda e: (seconds(e), e.event_id))

    def withdrew(self, who: Person) -> bool:
        """Whether the last word of a person is that nothing they gave may be learned from."""
        said = self._consents.get(who)
        return bool(said) and not latest(said.values()).consent_changed.may_learn

    def _is_gone(self, event: Event) -> bool:
        who = person(event)
        if (who, event.event_id) in self._retracted:
            return True
        return any(precedes(event, erasure) for erasure in self._erased.get(who, {}).values())

    def _size(self) -> tuple[int, ...]:
        by_person = (sum(map(len, events.values())) for events in (self._erased, self._consents))
        return len(self._given), len(self._retracted), *by_person


def seconds(event: Event) -> float:
    """When it happened, seconds since 1970 by its producer's clock."""
    return event.time.ToNanoseconds() / 1e9


def _in_producer(event: Event) -> tuple[int, int, str]:
    return event.sequence, event.time.ToNanoseconds(), event.event_id


def _across(event: Event) -> tuple[int, int, str]:
    return event.time.ToNanoseconds(), event.sequence, event.event_id

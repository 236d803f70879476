"""From events to examples: judgements joined with the responses that they judge.

A pure fold. Events come in any order, any number of times; the examples, and their hash, depend on the set alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from feedback.cases import EXAMPLES, Answer, Case, Unusable, kind_of, source_name
from feedback.examples import Correction, Demonstration, Example, Preference, Thumb, examples_hash
from feedback.votes import Votes, judged, person
from heliotrope.v1 import common_pb2
from heliotrope.v1.events_pb2 import Event, ResponseServed

__all__ = [
    "Correction",
    "Demonstration",
    "Example",
    "Joined",
    "Joiner",
    "Preference",
    "Thumb",
    "examples_hash",
]

PEOPLE = (common_pb2.SOURCE_HUMAN, common_pb2.SOURCE_SIMULATED)


@dataclass(frozen=True)
class Joined:
    """What the events amount to. pending: judgements whose responses have not ended yet.
    dropped: reason, by event id, of each standing judgement that teaches nothing."""

    examples: tuple[Example, ...] = ()
    pending: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)


class Joiner:
    """Folds events into examples.

    sources: whose feedback is accepted, "human", "simulated", …; the exchange's source must be accepted too.
    held_out: share of conversations kept out of training, 0 to 1, by hash. tokenizer: SHA-256 (hex) of the tokenizer
    whose ids can be learned from; empty: any. opener: the token that opens a message; None: bounds stay unknown.
    """

    def __init__(
        self, sources: Collection[str], held_out: float, tokenizer: str = "", opener: int | None = None
    ) -> None:
        self._sources, self._held_out, self._tokenizer = frozenset(sources), held_out, tokenizer
        self._opener = opener
        self._votes = Votes()
        self._answers: dict[str, Answer] = {}
        self._made: dict[str, tuple[Example, ...] | str] = {}
        self._joined: Joined | None = Joined()

    def add(self, event: Event) -> None:
        """Take one event in; a repeat changes nothing."""
        if event.WhichOneof("what") == "response_served":
            self._end(event)
        elif self._votes.add(event):
            self._joined = None

    def usable(self, response_id: str) -> bool:
        """Whether a response that has ended may be learned from."""
        answer = self._answers.get(response_id)
        return answer is not None and not answer.unusable

    def preferences(self) -> list[Preference]:
        """Accepted preferences, held-out ones among them, by time and id."""
        return [e for e in self.joined().examples if isinstance(e, Preference)]

    def thumbs(self) -> list[Thumb]:
        """Accepted judgements of single responses, by time and id."""
        return [e for e in self.joined().examples if isinstance(e, Thumb)]

    def corrections(self) -> list[Correction]:
        """Accepted corrections, by time and id."""
        return [e for e in self.joined().examples if isinstance(e, Correction)]

    def joined(self) -> Joined:
        """All that the events so far amount to."""
        if self._joined is None:
            self._joined = self._join()
        return self._joined

    def _join(self) -> Joined:
        examples: list[Example] = []
        pending, dropped = [], {}
        for vote in self._votes.standing():
            made = self._teach(vote)
            if made is None:
                pending.append(vote.event_id)
            elif isinstance(made, str):
                dropped[vote.event_id] = made
            else:
                examples.extend(made)
        return Joined(tuple(examples), tuple(pending), dropped)

    def _teach(self, vote: Event) -> tuple[Example, ...] | str | None:
        """The vote's examples, or why there are none; None while a response has not ended. Fixed once known."""
        if self._votes.withdrew(person(vote)):
            return "consent withdrawn"
        if vote.event_id in self._made:
            return self._made[vote.event_id]
        if not (made := self._refusal(vote)):
            if any(name not in self._answers for name in judged(vote)):
                return None
            try:
                made = self._examples(vote)
            except Unusable as reason:
                made = str(reason)
        self._made[vote.event_id] = made
        return made

    def _examples(self, vote: Event) -> tuple[Example, ...]:
        answers = [self._answers[name] for name in judged(vote)]
        for answer in answers:
            if answer.unusable:
                raise Unusable(answer.unusable)
            if vote.source in PEOPLE and answer.person != (vote.tenant, vote.user):
                raise Unusable("judges another person's response")
        case = Case(vote, answers, self._is_held_out(vote, answers), self._opener)
        return tuple(EXAMPLES[kind_of(vote)](case))

    def _refusal(self, event: Event) -> str:
        """Why an event may not be learned from; empty when it may."""
        if event.sealed:
            return "erased: its key is destroyed"
        if not event.consent:
            return "no consent"
        if event.purpose == common_pb2.PURPOSE_EVALUATION:
            return "made for evaluation"
        if (source := source_name(event.source)) not in self._sources:
            return f"source {source} is not accepted"
        if event.WhichOneof("what") == "feedback_given" and (
            kind_of(event) not in EXAMPLES or not judged(event)
        ):
            return "judges nothing that this program knows"
        return ""

    def _end(self, event: Event) -> None:
        served = event.response_served
        answer = Answer(
            event.event_id, served, (event.tenant, event.user), event.conversation_id,
            self._refusal(event) or self._unreadable(served),
        )  # fmt: skip
        known = self._answers.get(served.response_id)
        if known is not None and _rank(known) >= _rank(answer):
            return
        if known is not None:
            self._made.clear()
        self._answers[served.response_id] = answer
        self._joined = None

    def _unreadable(self, served: ResponseServed) -> str:
        if self._tokenizer and served.envelope.tokenizer != self._tokenizer:
            return "token ids of another tokenizer"
        return "" if served.prompt_token_ids and served.response_token_ids else "an empty prompt or response"

    def _is_held_out(self, vote: Event, answers: list[Answer]) -> bool:
        """By hash of the conversation; of the item where it is shared, so that a pair is never on both sides."""
        key = vote.feedback_given.item_id or answers[0].conversation
        number = int.from_bytes(
            hashlib.sha256(f"held-out\0{vote.tenant}\0{key}".encode()).digest()[:8], "big"
        )
        return number < self._held_out * 2**64


def _rank(answer: Answer) -> tuple[bool, int, str]:
    """Of two ends of one response the one that was not lost, then the longer, then by id: never by arrival."""
    lost = answer.served.finish_reason == common_pb2.FINISH_REASON_LOST
    return not lost, len(answer.served.response_token_ids), answer.event_id

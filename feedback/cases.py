"""From one judgement and the responses that it judges to examples: one function for each kind of feedback."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any

from feedback.bounds import user_turns
from feedback.examples import Correction, Example, Graded, Preference, Thumb, TokenIds
from feedback.votes import seconds
from heliotrope.v1 import common_pb2, feedback_pb2
from heliotrope.v1.events_pb2 import Event, ResponseServed, Target

MIN_PREFIX = 8
"""Fewer tokens than this of an unfinished answer are no answer: a judgement of them is not trained on."""

CUT = (common_pb2.FINISH_REASON_CANCELLED, common_pb2.FINISH_REASON_LOST)


@dataclass(frozen=True)
class Answer:
    """A response that ended. person: tenant and pseudonym. unusable: why it may not be learned from; empty when it may."""

    event_id: str
    served: ResponseServed
    person: tuple[str, str]
    conversation: str
    unusable: str


class Unusable(Exception):
    """Why a judgement is not trained on."""


@dataclass(frozen=True)
class Case:
    """One judgement with the responses that it judges, in the order of its targets. opener: as Joiner has it."""

    vote: Event
    answers: list[Answer]
    held_out: bool
    opener: int | None = None

    @property
    def feedback(self) -> feedback_pb2.Feedback:
        """What was said."""
        return self.vote.feedback_given.feedback

    @property
    def targets(self) -> list[Target]:
        """What it was said of."""
        return list(self.vote.feedback_given.targets)

    @property
    def partial(self) -> bool:
        """Whether any of the answers had not been sent whole when it was judged."""
        pairs = zip(self.targets, self.answers, strict=True)
        return any(
            t.HasField("tokens_sent") and t.tokens_sent < len(a.served.response_token_ids) for t, a in pairs
        )

    def common(self, suffix: str = "", weight: float = 1.0) -> dict[str, Any]:
        """The fields that every example has."""
        vote = self.vote
        return {
            "id": vote.event_id + suffix, "event_ids": (vote.event_id, *(a.event_id for a in self.answers)),
            "prompt_ids": tuple(self.answers[0].served.prompt_token_ids),
            "user": vote.user or vote.event_id,  # a judge whom nobody knows is one of their own
            "conversation": self.answers[0].conversation, "time": seconds(vote), "source": source_name(vote.source),
            "item_id": vote.feedback_given.item_id, "weight": weight, "held_out": self.held_out,
            "bounds": user_turns(self.answers[0].served, self.opener),
        }  # fmt: skip

    def versions(self) -> list[str]:
        """The policy version behind each answer."""
        return [a.served.started.adapter.policy_version or t.adapter.policy_version
                for t, a in zip(self.targets, self.answers, strict=True)]  # fmt: skip

    def judged_ids(self) -> list[TokenIds]:
        """What was judged of each answer: all of it, or prefixes at one fraction of the whole."""
        whole = [tuple(a.served.response_token_ids) for a in self.answers]
        finishes = {a.served.finish_reason for a in self.answers}
        if common_pb2.FINISH_REASON_LOST in finishes or (len(whole) > 1 and finishes.intersection(CUT)):
            raise Unusable("an answer was cut short: how much of the whole was judged is unknown")
        if not self.partial:
            return whole
        sent = [
            t.tokens_sent if t.HasField("tokens_sent") else len(w)
            for t, w in zip(self.targets, whole, strict=True)
        ]
        share = min(Fraction(min(n, len(w)), len(w)) for n, w in zip(sent, whole, strict=True))
        prefixes = [w[: int(share * len(w))] for w in whole]
        if min(map(len, prefixes)) < MIN_PREFIX:
            raise Unusable(f"judged when fewer than {MIN_PREFIX} tokens of an answer had been sent")
        return prefixes

    def preferences(
        self, order: Iterable[tuple[int, int]], weight: float = 1.0, **fields: Any
    ) -> list[Preference]:
        """A preference of each (better, worse) by place, all of the same prompt."""
        if len({tuple(a.served.prompt_token_ids) for a in self.answers}) != 1:
            raise Unusable("the answers are not to the same prompt")
        ids, versions, several = self.judged_ids(), self.versions(), len(self.answers) > 2
        pairs = [
            Preference(
                **self.common(f"/{i}-{j}" if several else "", weight),
                chosen_ids=ids[i],
                rejected_ids=ids[j],
                chosen_version=versions[i],
                rejected_version=versions[j],
                partial=self.partial,
                **fields,
            )
            for i, j in order
            if ids[i] != ids[j]
        ]
        if not pairs:
            raise Unusable("the answers are word for word the same")
        return pairs


def _comparison(case: Case) -> list[Example]:
    if len(case.answers) != 2:
        raise Unusable(f"a comparison of {len(case.answers)} answers")
    right_first = case.targets[0].side == common_pb2.SIDE_B
    a, b = (1, 0) if right_first else (0, 1)
    comparison = case.feedback.comparison
    strength = min(comparison.strength, 3) / 3
    match comparison.choice:
        case feedback_pb2.CHOICE_A:
            return [*case.preferences([(a, b)], strength=strength)]
        case feedback_pb2.CHOICE_B:
            return [*case.preferences([(b, a)], strength=strength)]
        case feedback_pb2.CHOICE_TIE:
            return [*case.preferences([(a, b)], tie=True)]
        case feedback_pb2.CHOICE_BOTH_BAD:
            ids, versions = case.judged_ids(), case.versions()
            return [
                _thumb(case, f"/{side}", ids[i], versions[i], up=False) for side, i in (("A", a), ("B", b))
            ]
    return []


def _ranking(case: Case) -> list[Example]:
    """Every pair of K, each a share of one judgement: 1 / C(K, 2)."""
    place = {target.response_id: i for i, target in enumerate(case.targets)}
    named = [place[name] for name in case.feedback.ranking.response_ids if name in place]
    pairs = list(combinations(named, 2))
    return [*case.preferences(pairs, weight=1 / max(1, len(pairs)))]


def _single(case: Case) -> list[Example]:
    return [_thumb(case, "", case.judged_ids()[0], case.versions()[0], up=case.feedback.thumb.up)]


def _correction(case: Case) -> list[Example]:
    if case.partial:
        raise Unusable("a correction of an answer that had not been sent whole")
    text, version = case.feedback.correction.text, case.versions()[0]
    return [Correction(**case.common(), response_ids=case.judged_ids()[0], text=text, version=version)]


def _rating(case: Case) -> list[Example]:
    if case.partial:
        raise Unusable("grades of an answer that had not been sent whole")
    rating = case.feedback.rating
    return [
        Graded(
            **case.common(), response_ids=case.judged_ids()[0], version=case.versions()[0],
            helpfulness=min(rating.helpfulness, 5), presentation=min(rating.presentation, 3),
        )
    ]  # fmt: skip


def _thumb(case: Case, suffix: str, ids: TokenIds, version: str, *, up: bool) -> Thumb:
    return Thumb(**case.common(suffix), response_ids=ids, up=up, version=version, partial=case.partial)


EXAMPLES: dict[str, Callable[[Case], list[Example]]] = {
    "comparison": _comparison,
    "ranking": _ranking,
    "thumb": _single,
    "correction": _correction,
    "rating": _rating,
}


def source_name(source: common_pb2.Source) -> str:
    """ "human", "simulated", "ai", "auto", "imported"; "unspecified" when not set."""
    return common_pb2.Source.Name(source).removeprefix("SOURCE_").lower()


def kind_of(vote: Event) -> str:
    """Which of the five kinds of feedback it is; empty when none."""
    return vote.feedback_given.feedback.WhichOneof("kind") or ""

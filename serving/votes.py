"""Decides whether a judgement counts: right ticket, right kind for its target, not seen before; then commits it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from heliotrope.errors import AlreadyExists, HeliotropeError, InvalidInput, NotFound, PermissionDenied
from heliotrope.identity import event_id
from heliotrope.v1 import events_pb2, feedback_pb2
from serving.answer import served_id
from serving.caller import Caller
from serving.conversations import Conversations, chosen_response
from serving.journal import Journal, Kept, Origin
from serving.tickets import Tickets
from serving.validate import check_feedback, check_request_id, uuid_of

T = TypeVar("T")


@dataclass(frozen=True)
class Verdict:
    """What became of a judgement. repeated: it had been taken before and nothing was changed."""

    feedback_id: str
    repeated: bool
    policy_versions: tuple[str, ...]


class Named(NamedTuple):
    """A judgement that is well formed, with the id that it has, or will have, in the log."""

    feedback_id: str
    request: feedback_pb2.GiveFeedbackRequest
    caller: Caller


Made = Verdict | events_pb2.Event
"""Of a judgement that is not refused: what is to be committed, or what became of it before."""


@dataclass(frozen=True)
class Votes:
    """Takes judgements. tokens_sent: of a response in flight, None when it is complete."""

    journal: Journal
    tickets: Tickets
    conversations: Conversations
    tokens_sent: Callable[[str], int | None]

    async def give(self, request: feedback_pb2.GiveFeedbackRequest, caller: Caller) -> Verdict:
        """Commit a judgement durably. Raises as FeedbackService.GiveFeedback says; then nothing was changed."""
        named = self._named(request, caller)
        made = self._made(named, self.journal.find(named.feedback_id))
        (told,) = [made] if isinstance(made, Verdict) else await self._committed([made])
        if isinstance(told, HeliotropeError):
            raise told
        return told

    async def give_all(
        self, given: Sequence[feedback_pb2.PersonalFeedback], caller: Callable[[str], Caller]
    ) -> list[Verdict | HeliotropeError]:
        """Commit many people's at once. What `give` would have raised stands in the place of its judgement. caller: who a
        person is."""
        named = [_tried(lambda one=one: self._named(one.request, caller(one.user))) for one in given]
        known = self.journal.find_all([one.feedback_id for one in named if isinstance(one, Named)])
        made = [
            _tried(lambda one=one: self._made(one, known.get(one.feedback_id)))
            if isinstance(one, Named)
            else one
            for one in named
        ]
        verdicts = iter(await self._committed([one for one in made if isinstance(one, events_pb2.Event)]))
        return [next(verdicts) if isinstance(one, events_pb2.Event) else one for one in made]

    def _named(self, request: feedback_pb2.GiveFeedbackRequest, caller: Caller) -> Named:
        check_feedback(request)
        return Named(event_id(caller.user, request.request_id), request, caller)

    def _made(self, named: Named, known: events_pb2.Event | None) -> Made:
        """The event of a judgement; the verdict on one that was taken before."""
        feedback_id, request, caller = named
        if known:
            return Verdict(feedback_id, True, _versions(known.feedback_given))
        tickets = [self.tickets.verify(text, caller) for text in request.feedback_tickets]
        targets = [self._target(answer) for answer in _judged(request.feedback, tickets)]
        self._check_correction(request.feedback)
        first = tickets[0]
        event = self.journal.event(
            feedback_id, Origin(caller, first.conversation_id, first.source, first.purpose, first.consent)
        )
        event.feedback_given.MergeFrom(
            events_pb2.FeedbackGiven(feedback=request.feedback, item_id=first.item_id, targets=targets)
        )
        return event

    async def _committed(self, events: Sequence[events_pb2.Event]) -> list[Verdict | HeliotropeError]:
        """What a caller who leaves has begun is done to its end."""
        if not events:
            return []
        commit = self.journal.commit_each(events)  # now: whoever sends the same meanwhile finds it under way
        return await asyncio.shield(asyncio.ensure_future(self._told(events, commit)))

    async def _told(
        self, events: Sequence[events_pb2.Event], commit: Awaitable[list[Kept]]
    ) -> list[Verdict | HeliotropeError]:
        return [self._verdict(*both) for both in zip(events, await commit, strict=True)]

    def _verdict(self, event: events_pb2.Event, kept: Kept) -> Verdict | HeliotropeError:
        if isinstance(kept, HeliotropeError):
            return kept
        given = kept.feedback_given
        if kept is event and (
            chosen := chosen_response(given.feedback, [t.response_id for t in given.targets])
        ):
            self.conversations.choose(event.conversation_id, chosen)
        return Verdict(event.event_id, kept is not event, _versions(given))

    async def retract(self, request: feedback_pb2.RetractFeedbackRequest, caller: Caller) -> bool:
        """Commit that a judgement is taken back; True when this request_id had done so before."""
        retraction_id = event_id(caller.user, check_request_id(request.request_id), "retraction")
        target = uuid_of("feedback_id", request.feedback_id)
        if known := self.journal.find(retraction_id):
            return self._same(known, request.request_id, target)
        given = self.journal.find(target)
        if given is None or given.WhichOneof("what") != "feedback_given":
            raise NotFound(f"no feedback {target}; send the feedback_id of a GiveFeedbackResponse")
        if (given.tenant, given.user) != (caller.tenant, caller.user):
            raise PermissionDenied(f"feedback {target} is another person's; only your own can be taken back")
        event = self.journal.event(
            retraction_id, Origin(caller, given.conversation_id, given.source, given.purpose, given.consent)
        )
        event.feedback_retracted.feedback_event_id = target
        kept = await self.journal.commit_once(event)
        return kept is not event and self._same(kept, request.request_id, target)

    def _same(self, known: events_pb2.Event, request_id: str, target: str) -> bool:
        if known.feedback_retracted.feedback_event_id != target:
            raise AlreadyExists(
                f"request_id {request_id!r} took back feedback {known.feedback_retracted.feedback_event_id}; use a new one"
            )
        return True

    def _target(self, answer: feedback_pb2.TicketAnswer) -> events_pb2.Target:
        return events_pb2.Target(
            response_id=answer.response_id,
            adapter=answer.adapter,
            side=answer.side,
            tokens_sent=self.tokens_sent(answer.response_id),
        )

    def _check_correction(self, feedback: feedback_pb2.Feedback) -> None:
        if feedback.WhichOneof("kind") != "correction":
            return
        served = self.journal.find(served_id(feedback.correction.response_id))
        if served and served.response_served.text.strip() == feedback.correction.text.strip():
            raise InvalidInput(
                "the correction equals the response; send what it should have been, or a thumb up"
            )


def _tried(make: Callable[[], T]) -> T | HeliotropeError:
    try:
        return make()
    except HeliotropeError as error:
        return error


def _judged(
    feedback: feedback_pb2.Feedback, tickets: list[feedback_pb2.Ticket]
) -> list[feedback_pb2.TicketAnswer]:
    """The answers that the judgement is about, in the order A, B or best first."""
    kind = feedback.WhichOneof("kind")
    answers = {a.response_id: a for ticket in tickets for a in ticket.answers}
    if kind == "comparison":
        if len(answers) != 2:
            raise InvalidInput(
                f"a comparison judges two answers and this ticket is for {len(answers)}; send a thumb or a rating"
            )
        return list(answers.values())
    if kind == "ranking":
        if len({t.prompt_digest for t in tickets}) != 1:
            raise InvalidInput(
                "the ranking's tickets are of different prompts; rank answers to the same prompt only"
            )
        named = list(feedback.ranking.response_ids)
    else:
        named = [getattr(feedback, kind or "").response_id]
    for name in named:
        if name not in answers:
            raise NotFound(
                f"response {name[:80]!r} is not one that the ticket names ({', '.join(answers)}); judge one of those"
            )
    return [answers[name] for name in named]


def _versions(given: events_pb2.FeedbackGiven) -> tuple[str, ...]:
    return tuple(t.adapter.policy_version for t in given.targets)

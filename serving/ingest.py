"""Decides what of a batch of foreign judgements is recorded, and as which events.

An item becomes one `ResponseServed` for each response and one `FeedbackGiven`. Token ids are computed here, by the
chat format that serves; there are no log-probabilities, because no policy of ours drew the text.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from feedback.log import Event, pack
from heliotrope.chat import ChatFormat
from heliotrope.errors import InvalidInput
from heliotrope.identity import NAMESPACE, check_request_id, event_id, pseudonym
from heliotrope.v1 import common_pb2, feedback_pb2, ingest_pb2
from serving.answer import served_id
from serving.caller import Caller
from serving.journal import Journal, Origin
from serving.validate import check_judgement, messages_of, text_of

MAX_ITEMS = 1000
MAX_RESPONSES = 16
MAX_JUDGE = 256
TOGETHER = 512
"""Events that are handed to the log at once: as many as it commits together."""
_ORIGIN = re.compile(r"[A-Za-z0-9._/-]{1,64}")


@dataclass(frozen=True)
class Ingested:
    """What became of a batch. rejected: place in the batch, and the reason."""

    recorded: int
    repeated: int
    rejected: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Ingest:
    """Records foreign judgements. key: the server key, which gives judges their pseudonyms."""

    journal: Journal
    format: ChatFormat
    key: bytes

    async def take(
        self, items: Sequence[ingest_pb2.IngestedItem], caller: Caller, source: common_pb2.Source
    ) -> Ingested:
        """Durable when it returns. Raises InvalidInput for the size of the batch, LogError when nothing is stored."""
        if not 0 < len(items) <= MAX_ITEMS:
            raise InvalidInput(f"the batch has {len(items)} items; send 1 to {MAX_ITEMS}")
        made = await asyncio.to_thread(
            lambda: [self._events_or_reason(item, caller.tenant, source) for item in items]
        )
        fresh = {
            events[-1].event_id: events
            for events in made
            if isinstance(events, list) and self.journal.find(events[-1].event_id) is None
        }
        # A judgement makes its item known: its responses are durable before it, or a retry would skip them.
        responses = [event for events in fresh.values() for event in events[:-1]]
        for batch in (responses, [events[-1] for events in fresh.values()]):
            for start in range(0, len(batch), TOGETHER):
                await asyncio.gather(*map(self.journal.commit, batch[start : start + TOGETHER]))
        rejected = tuple((i, reason) for i, reason in enumerate(made) if isinstance(reason, str))
        return Ingested(len(fresh), len(items) - len(fresh) - len(rejected), rejected)

    def _events_or_reason(
        self, item: ingest_pb2.IngestedItem, tenant: str, source: common_pb2.Source
    ) -> list[Event] | str:
        try:
            return self._events(item, tenant, source)
        except InvalidInput as error:
            return str(error)

    def _events(self, item: ingest_pb2.IngestedItem, tenant: str, source: common_pb2.Source) -> list[Event]:
        """The responses' events, then the judgement's. Ids follow from tenant, source and item id."""
        check_item(item)
        messages = messages_of(item.messages)
        prompt, scope = self.format.prompt_ids(messages), f"ingest\0{tenant}\0{source}"
        origin = Origin(
            Caller(tenant, self._judge(item, tenant)),
            conversation_of(item.origin, prompt),
            source,
            consent=True,
        )
        names = [event_id(scope, item.item_id, str(i)) for i in range(len(item.responses))]
        events = [
            self._served(name, item, origin, prompt, text)
            for name, text in zip(names, item.responses, strict=True)
        ]
        vote = self.journal.event(event_id(scope, item.item_id), origin)
        vote.feedback_given.feedback.CopyFrom(named(item.feedback, names))
        for name, side in zip(names, _sides(item.feedback, len(names)), strict=True):
            vote.feedback_given.targets.add(response_id=name, side=side)
        events.append(vote)
        for event in events:
            event.origin = item.origin
            pack(event)
        return events

    def _judge(self, item: ingest_pb2.IngestedItem, tenant: str) -> str:
        """The judge's pseudonym: no name of anybody is stored, here no more than elsewhere."""
        return pseudonym(self.key, tenant, f"judge\0{item.origin}\0{item.judge}") if item.judge else ""

    def _served(
        self, name: str, item: ingest_pb2.IngestedItem, origin: Origin, prompt: Sequence[int], text: str
    ) -> Event:
        event = self.journal.event(served_id(name), origin)
        served = event.response_served
        served.response_id, served.text = name, text
        served.started.response_id = name
        served.started.history = common_pb2.HISTORY_KEEPER_CLIENT
        served.messages.extend(item.messages)
        served.prompt_token_ids.extend(prompt)
        served.response_token_ids.extend(self.format.answer_ids(text))
        served.propensity = common_pb2.PROPENSITY_NONE
        served.envelope.CopyFrom(self.format.envelope)
        served.finish_reason = common_pb2.FINISH_REASON_STOP
        return event


def check_item(item: ingest_pb2.IngestedItem) -> None:
    """Raises InvalidInput for what cannot be recorded, its messages aside."""
    check_request_id(item.item_id)
    if not _ORIGIN.fullmatch(item.origin):
        raise InvalidInput(f"origin {item.origin[:80]!r} is not 1 to 64 of A-Z, a-z, 0-9 and . _ / -")
    if (size := len(item.judge.encode())) > MAX_JUDGE:
        raise InvalidInput(f"the judge's name has {size} bytes; at most {MAX_JUDGE} are taken")
    if not 0 < len(item.responses) <= MAX_RESPONSES:
        raise InvalidInput(f"there are {len(item.responses)} responses; send 1 to {MAX_RESPONSES}")
    for i, text in enumerate(item.responses):
        text_of(f"response {i}", text)
    kind, known = check_judgement(item.feedback), {str(i) for i in range(len(item.responses))}
    if kind == "comparison" and len(known) != 2:
        raise InvalidInput(f"a comparison of {len(known)} responses; send 2, or a ranking")
    if kind not in ("comparison", "ranking") and len(known) != 1:
        raise InvalidInput(f"a {kind} on {len(known)} responses; send one")
    judged = item.feedback.ranking.response_ids if kind == "ranking" else _single(item.feedback)
    if strange := sorted(set(judged) - known):
        raise InvalidInput(f'the judgement names response {strange[0][:80]!r}; name them "0", "1", …')


def named(feedback: feedback_pb2.Feedback, names: Sequence[str]) -> feedback_pb2.Feedback:
    """The judgement with "0", "1", … replaced by response ids."""
    copy = feedback_pb2.Feedback()
    copy.CopyFrom(feedback)
    kind = feedback.WhichOneof("kind")
    if kind == "ranking":
        copy.ranking.response_ids[:] = [names[int(i)] for i in feedback.ranking.response_ids]
    elif kind in ("thumb", "correction", "rating"):
        getattr(copy, kind).response_id = names[0]
    return copy


def conversation_of(origin: str, prompt: Sequence[int]) -> str:
    """One conversation a prompt, so that no prompt is both trained on and held out."""
    digest = hashlib.sha256(",".join(map(str, prompt)).encode()).hexdigest()
    return str(uuid.uuid5(NAMESPACE, f"ingest\0{origin}\0{digest}"))


def _single(feedback: feedback_pb2.Feedback) -> list[str]:
    kind = feedback.WhichOneof("kind")
    return [] if kind in (None, "comparison") else [getattr(feedback, kind).response_id]


def _sides(feedback: feedback_pb2.Feedback, count: int) -> list[common_pb2.Side]:
    if feedback.WhichOneof("kind") == "comparison":
        return [common_pb2.SIDE_A, common_pb2.SIDE_B]
    return [common_pb2.SIDE_UNSPECIFIED] * count

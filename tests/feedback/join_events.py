"""Exchanges and judgements for the joining tests. Token ids of a response say which one it is."""

from __future__ import annotations

from heliotrope.v1 import common_pb2, events_pb2, feedback_pb2

Event = events_pb2.Event
CHOICES = {
    "A": feedback_pb2.CHOICE_A,
    "B": feedback_pb2.CHOICE_B,
    "tie": feedback_pb2.CHOICE_TIE,
    "both bad": feedback_pb2.CHOICE_BOTH_BAD,
    "skip": feedback_pb2.CHOICE_SKIP,
}


def header(event_id: str, user: str = "ann", at: float = 0, sequence: int = 1, producer: str = "p1") -> Event:
    """An event without content, accepted by a joiner for humans."""
    event = Event(
        event_id=event_id, producer_id=producer, sequence=sequence, tenant="t", user=user, conversation_id=f"talk-{user}",
        source=common_pb2.SOURCE_HUMAN, purpose=common_pb2.PURPOSE_CHAT, consent=True,
    )  # fmt: skip
    event.time.FromNanoseconds(int(at * 1e9))
    return event


def served(
    name: str, ids: range | tuple[int, ...], user: str = "ann", prompt: tuple[int, ...] = (1, 2, 3)
) -> Event:
    """The end of response `name`, drawn by policy-v1."""
    event = header(f"end-{name}", user)
    what = event.response_served
    what.response_id, what.finish_reason = name, common_pb2.FINISH_REASON_STOP
    what.prompt_token_ids.extend(prompt)
    what.response_token_ids.extend(ids)
    what.started.adapter.policy_version = "policy-v1"
    return event


def pair(user: str = "ann") -> list[Event]:
    """Responses a (ids 100…) and b (ids 200…) of one comparison."""
    return [served(f"a-{user}", range(100, 120), user), served(f"b-{user}", range(200, 240), user)]


def judgement(event: Event, *names: str, item: str = "", sent: tuple[int | None, ...] = ()) -> Event:
    """Give the event its targets, in this order."""
    event.feedback_given.item_id = item
    for i, name in enumerate(names):
        count = sent[i] if sent else None
        event.feedback_given.targets.add(response_id=name, tokens_sent=count)
    return event


def compared(
    event_id: str, choice: str, user: str = "ann", at: float = 0, sequence: int = 1, producer: str = "p1",
    strength: int = 0, sent: tuple[int | None, ...] = (), item: str = "",
) -> Event:  # fmt: skip
    """A judgement of `pair(user)`."""
    event = header(event_id, user, at, sequence, producer)
    judgement(event, f"a-{user}", f"b-{user}", item=item, sent=sent)
    event.feedback_given.feedback.comparison.choice = CHOICES[choice]
    event.feedback_given.feedback.comparison.strength = strength
    return event


def retracted(event_id: str, target: str, user: str = "ann", sequence: int = 9) -> Event:
    """`target` is taken back."""
    event = header(event_id, user, 100, sequence)
    event.feedback_retracted.feedback_event_id = target
    return event

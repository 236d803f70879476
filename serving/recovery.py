"""What a start owes to the log: conversations and shared pairs come back, and responses cut off by a crash are closed."""

from __future__ import annotations

import logging

from heliotrope.errors import LogError, ResourceExhausted
from heliotrope.v1 import common_pb2, events_pb2
from serving.answer import served_id
from serving.caller import Caller
from serving.conversations import Conversations
from serving.journal import Journal, Origin
from serving.shared_items import SharedItems

logger = logging.getLogger(__name__)


async def recover(
    journal: Journal, conversations: Conversations, shared: SharedItems, envelope: common_pb2.Envelope
) -> int:
    """Fold the log into both, and commit a lost `ResponseServed` for every response without one; how many there were.

    envelope: of the model that serves now; pairs that another one answered are not shown again.
    """
    running: dict[str, events_pb2.Event] = {}
    for _, event in journal.events("exchanges"):
        if event.WhichOneof("what") == "response_started":
            running[event.response_started.response_id] = event
            continue
        running.pop(event.response_served.response_id, None)
        conversations.fold(event)
        if event.response_served.envelope == envelope:
            shared.add(event.response_served)
    for _, event in journal.events("feedback"):
        conversations.fold(event)
    for event in running.values():
        try:
            await journal.commit(lost(journal, event))
        except (LogError, ResourceExhausted) as error:
            logger.error("responses stay open in the log until there is room: %s", error)
            break
    return len(running)


def lost(journal: Journal, event: events_pb2.Event) -> events_pb2.Event:
    """The event that closes a response whose end nobody saw; what had been drawn is not known."""
    origin = Origin(
        Caller(event.tenant, event.user), event.conversation_id, event.source, event.purpose, event.consent
    )
    started = event.response_started
    closing = journal.event(served_id(started.response_id), origin)
    closing.response_served.response_id = started.response_id
    closing.response_served.started.CopyFrom(started)
    closing.response_served.finish_reason = common_pb2.FINISH_REASON_LOST
    closing.response_served.propensity = common_pb2.PROPENSITY_NONE
    return closing

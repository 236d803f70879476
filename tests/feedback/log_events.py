"""Events for the log's tests, small and said in one line."""

from __future__ import annotations

from feedback.log import Log
from heliotrope.v1 import events_pb2


def exchange(event_id: str, text: str = "hello") -> events_pb2.Event:
    """An answer that ended (topic `exchanges`)."""
    event = events_pb2.Event(event_id=event_id, conversation_id="c1", user="u1")
    event.response_served.text = text
    return event


def vote(event_id: str) -> events_pb2.Event:
    """A judgement (topic `feedback`)."""
    event = events_pb2.Event(event_id=event_id, conversation_id="c1", user="u1")
    event.feedback_given.feedback.thumb.up = True
    return event


def newest(log: Log, topic: str) -> int:
    """The newest offset of a topic where all its events have one key."""
    return max(log.end(topic).values())

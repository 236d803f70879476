"""The one door to the log: append durably, read from positions. Facts in the past tense, never changed.

Topics: `exchanges` (what was answered), `feedback` (judgements, consent, erasure), `policy` (states of versions).
A topic has partitions, from 0; offsets rise within a partition, from 1, not always by one. Two implementations keep one
contract suite: SqliteLog, embedded, with one partition a topic; KafkaLog for more machines.

An event may be read more than once (Kafka delivers at least once), and events of different partitions in any order:
readers drop known event ids, in the transaction that stores what they derived and their positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import DecodeError

from heliotrope.errors import InvalidInput, LogError, ResourceExhausted
from heliotrope.v1.events_pb2 import Event

EXCHANGES, FEEDBACK, POLICY = TOPICS = ("exchanges", "feedback", "policy")
SCHEMA = 1
"""Newest version of the event schema that this program reads; an event without one is of the first."""
MAX_BYTES = 900 * 1024
"""Largest serialised event: 900 KiB, under Kafka's default of 1 MiB with room for headers."""
SEAL_BYTES = 16 * 1024
"""What sealing may add to it, with the fields that stay open beside the sealed whole: an event that was taken is never
refused for its seal, and one with its headers stays under Kafka's 1 MiB."""

Positions = Mapping[str, int]
"""How far a reader has come: by `place`, the offset that it read last. A place that is missing is read from its beginning."""

_TOPIC = {
    "response_started": EXCHANGES,
    "response_served": EXCHANGES,
    "feedback_given": FEEDBACK,
    "feedback_retracted": FEEDBACK,
    "consent_changed": FEEDBACK,
    "erasure_requested": FEEDBACK,
    "erasure_done": FEEDBACK,
    "policy_state_changed": POLICY,
}


class LogFull(LogError, ResourceExhausted):
    """The log's disk is full: nothing of the batch was written, and appending works again once there is room."""

    code = "RESOURCE_EXHAUSTED"


class EventTooLarge(InvalidInput, ResourceExhausted):
    """One event is beyond the log's bound: sending it again cannot help."""

    code = "INVALID_ARGUMENT"


@dataclass(frozen=True)
class Record:
    """One place of a topic. `event` is None where the stored bytes do not parse; `problem` then says why, beginning with
    a code of feedback/inspection.py ("unparsable: …"), and `value` is what is stored."""

    topic: str
    partition: int
    offset: int
    event: Event | None
    problem: str = ""
    value: bytes = b""
    incarnation: str = ""

    @property
    def place(self) -> str:
        """The key of its position."""
        return place(self.topic, self.partition, self.incarnation)


class Log(Protocol):
    """Append-only. One process writes, any number read."""

    def append(self, events: Sequence[Event]) -> list[int]:
        """Commit durably, in the order given; the offset of each in the partition of its key.

        Raises InvalidInput (no id, no content) and EventTooLarge before anything is written, else LogFull or LogError.
        """
        ...

    def read(self, topic: str, after: Positions, limit: int) -> list[Record]:
        """At most `limit` records of a topic after the positions, rising within each partition. Raises LogError."""
        ...

    def end(self, topic: str) -> dict[str, int]:
        """The newest offset of each partition of a topic, by place; 0 when it is empty. Raises LogError."""
        ...

    def close(self) -> None:
        """Let go of files and connections; idempotent."""
        ...


class Store(Log, Protocol):
    """A log that knows its events by id: `append` commits all or none, and drops an event whose id it has, or meets
    twice in the batch, giving it the first one's offset."""

    def find(self, event_id: str) -> Event | None:
        """The event of that id; None when it was never committed, or cannot be read."""
        ...

    def among(self, event_ids: Sequence[str]) -> list[str]:
        """Those of the ids under which an event was committed; in one look."""
        ...

    def count(self, topic: str) -> int:
        """Events in a topic."""
        ...


def place(topic: str, partition: int = 0, incarnation: str = "") -> str:
    """A partition's name in positions, manifests and messages: "feedback/3", with Kafka "feedback/3@<id of the topic>".

    A topic that was made anew has another id, so that positions in the old one say nothing about it.
    """
    return f"{topic}/{partition}@{incarnation}" if incarnation else f"{topic}/{partition}"


def topic_of(event: Event) -> str:
    """The topic that an event belongs to. Raises InvalidInput for one without content."""
    what = event.WhichOneof("what")
    if what is None:
        raise InvalidInput(f"event {event.event_id!r} has no content; set one of {', '.join(_TOPIC)}")
    return _TOPIC[what]


def key_of(event: Event) -> str:
    """What keeps order together: the conversation, or the person for consent and erasure; one for all of `policy`."""
    if topic_of(event) == POLICY:
        return POLICY
    return event.conversation_id or f"user:{event.user}"


def pack(event: Event) -> bytes:
    """Bytes to store, the same for equal events. Raises InvalidInput without an id, EventTooLarge above MAX_BYTES."""
    if not event.event_id:
        raise InvalidInput("an event has no event_id; give it a UUID so that repeats are dropped")
    value = event.SerializeToString(deterministic=True)
    if len(value) > MAX_BYTES + (SEAL_BYTES if event.sealed else 0):
        raise EventTooLarge(
            f"event {event.event_id} has {len(value):,} bytes and the log takes at most {MAX_BYTES:,} (900 KiB); "
            f"shorten the messages or the answer"
        )
    return value


def parse_event(value: bytes) -> tuple[Event | None, str]:
    """The event of stored bytes, or None and why there is none: a code, a colon and words."""
    try:
        event = Event.FromString(value)
    except DecodeError as error:
        return None, f"unparsable: {len(value):,} bytes that are no event ({error})"
    if event.schema > SCHEMA:
        return None, f"other_schema: schema {event.schema}, this program reads {SCHEMA}; use a newer one"
    if not event.event_id:
        return None, "no_id: an event without event_id, so that a repeat could not be told"
    if event.WhichOneof("what") is None:
        return None, f"no_content: event {event.event_id[:64]!r} holds nothing that this program knows"
    return event, ""


def read_all(log: Log, topic: str, after: Positions | None = None, page: int = 500) -> Iterator[Record]:
    """Every record of a topic after the positions (None: from the beginning), until the end as it is then."""
    positions = dict(after or {})
    while records := log.read(topic, positions, page):
        yield from records
        positions |= {record.place: record.offset for record in records}

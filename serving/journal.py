"""What serving writes to the log: events stamped with their producer, position and time, committed before anyone is told."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from feedback.log import Log, Record
from heliotrope.v1 import common_pb2, events_pb2
from serving.caller import Caller

SCHEMA = 1
PAGE = 500


@dataclass(frozen=True)
class Origin:
    """What every event of one exchange says about where it comes from."""

    caller: Caller
    conversation_id: str = ""
    source: common_pb2.Source = common_pb2.SOURCE_HUMAN
    purpose: common_pb2.Purpose = common_pb2.PURPOSE_CHAT
    consent: bool = False


@dataclass
class Journal:
    """One producer's hand on the log. write: makes events durable before it returns (group commit)."""

    log: Log
    write: Callable[[events_pb2.Event], Awaitable[int]]
    clock: Callable[[], float] = time.time
    producer_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    _sequence: Iterator[int] = field(default_factory=lambda: count(1))

    def event(self, event_id: str, origin: Origin) -> events_pb2.Event:
        """A stamped event without its content; its sequence number is taken now and orders changed votes."""
        event = events_pb2.Event(
            event_id=event_id, producer_id=self.producer_id, sequence=next(self._sequence), schema=SCHEMA,
            tenant=origin.caller.tenant, user=origin.caller.user, conversation_id=origin.conversation_id,
            source=origin.source, purpose=origin.purpose, consent=origin.consent,
        )  # fmt: skip
        event.time.FromNanoseconds(int(self.clock() * 1e9))
        return event

    async def commit(self, event: events_pb2.Event) -> int:
        """Append durably; the position. Raises LogError when the log cannot take it."""
        return await self.write(event)

    def find(self, event_id: str) -> events_pb2.Event | None:
        """The event of that id, if it was ever committed."""
        return self.log.find(event_id)

    def all(self, topic: str) -> Iterator[Record]:
        """Every record of a topic, oldest first."""
        yield from self.read_after(topic, 0)

    def read_after(self, topic: str, position: int) -> Iterator[Record]:
        """The records after a position, until the end as it is now."""
        page: Sequence[Record] = self.log.read(topic, position, PAGE)
        while page:
            yield from page
            page = self.log.read(topic, page[-1].offset, PAGE)

"""What serving writes to the log: events stamped with their producer, position and time, committed before anyone is told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from feedback.log import EventTooLarge, Store, place, read_all
from heliotrope.errors import HeliotropeError
from heliotrope.v1 import common_pb2, events_pb2
from serving.caller import Caller
from serving.pulse import Pulse

SCHEMA = 1
MAX_OWED = 4096
"""Ends of responses that are kept in memory while the log has no room."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """What every event of one exchange says about where it comes from."""

    caller: Caller
    conversation_id: str = ""
    source: common_pb2.Source = common_pb2.SOURCE_HUMAN
    purpose: common_pb2.Purpose = common_pb2.PURPOSE_CHAT
    consent: bool = False


Kept = events_pb2.Event | HeliotropeError


@dataclass
class Journal:
    """One producer's hand on the log. store: what it wrote, on this machine. write: makes events durable before it
    returns their positions (group commit). pulse: beats at every commit. under_way: how many calls are committing an event id."""

    store: Store
    write: Callable[[Sequence[events_pb2.Event]], Awaitable[Sequence[int]]]
    clock: Callable[[], float] = time.time
    pulse: Pulse = field(default_factory=Pulse)
    owed: deque[events_pb2.Event] = field(default_factory=lambda: deque(maxlen=MAX_OWED))
    under_way: Counter[str] = field(default_factory=Counter)

    def event(self, event_id: str, origin: Origin) -> events_pb2.Event:
        """An event of now without its content; producer and sequence are stamped as it is committed."""
        event = events_pb2.Event(
            event_id=event_id, schema=SCHEMA, tenant=origin.caller.tenant, user=origin.caller.user, conversation_id=origin.conversation_id,
            source=origin.source, purpose=origin.purpose, consent=origin.consent,
        )  # fmt: skip
        event.time.FromNanoseconds(int(self.clock() * 1e9))
        return event

    async def commit(self, event: events_pb2.Event) -> int:
        """Append durably; the position. Raises LogError when the log cannot take it."""
        (position,) = await self._commit([event])
        return position

    async def _commit(self, events: Sequence[events_pb2.Event]) -> Sequence[int]:
        positions = await self.write(events)
        await self._settle()
        self.pulse.beat()
        return positions

    async def commit_once(self, event: events_pb2.Event) -> events_pb2.Event:
        """`commit_each` of one. Raises LogError."""
        (kept,) = await self.commit_each([event])
        if isinstance(kept, HeliotropeError):
            raise kept
        return kept

    def commit_each(self, events: Sequence[events_pb2.Event]) -> Awaitable[list[Kept]]:
        """Commit what a caller may send again before the first call has ended. Of each the event that the log keeps under its
        id: this very one, or what came before it said; or why it is not kept. Looked up only where there was another on its
        way, from this call on: nobody else writes this log.

        A caller who leaves takes nothing back: the commit goes on to its end, and those who come meanwhile are told so.
        """
        twins = []
        for event in events:
            twins.append(self.under_way[event.event_id])
            self.under_way[event.event_id] += 1
        return asyncio.shield(asyncio.ensure_future(self._commit_each(events, twins)))

    async def _commit_each(self, events: Sequence[events_pb2.Event], twins: Sequence[int]) -> list[Kept]:
        try:
            await self._commit(events)
        except HeliotropeError as error:
            kept = self.find_all([event.event_id for event in events])
            return [self._first(event) if event.event_id in kept else error for event in events]
        finally:
            for event in events:
                self.under_way[event.event_id] -= 1
                if not self.under_way[event.event_id]:
                    del self.under_way[event.event_id]
        return [self._first(event) if twin else event for event, twin in zip(events, twins, strict=True)]

    def _first(self, event: events_pb2.Event) -> events_pb2.Event:
        """What the log keeps under the id of an event that was not alone on its way."""
        kept = self.find(event.event_id)
        first = kept and (kept.producer_id, kept.sequence) != (event.producer_id, event.sequence)
        return kept if kept and first else event

    async def close_late(self, event: events_pb2.Event) -> None:
        """Commit the end of a response; kept for later, and said so, when the log has no room for it now."""
        try:
            await self.commit(event)
        except EventTooLarge as error:
            _too_large(event, error)
        except HeliotropeError as error:
            logger.error("event %s waits for room in the log: %s", event.event_id, error)
            self.owed.append(event)

    def disown(self, person: Caller) -> list[events_pb2.Event]:
        """Let go of ends that wait for room and are this person's: written later they would outlive an erasure. Which."""
        who = (person.tenant, person.user)
        theirs = [e for e in self.owed if (e.tenant, e.user) == who]
        kept = [e for e in self.owed if (e.tenant, e.user) != who]
        self.owed.clear()
        self.owed.extend(kept)
        return theirs

    async def _settle(self) -> None:
        """Write what found no room before, now that there is some."""
        while self.owed:
            late = self.owed.popleft()
            try:
                await self.write([late])
            except EventTooLarge as error:
                _too_large(late, error)
            except HeliotropeError:
                self.owed.appendleft(late)
                return

    def find(self, event_id: str) -> events_pb2.Event | None:
        """The event of that id, if it was ever committed."""
        return self.store.find(event_id)

    def find_all(self, event_ids: Sequence[str]) -> dict[str, events_pb2.Event | None]:
        """Those of them that were ever committed, by id."""
        return {id: self.store.find(id) for id in self.store.among(event_ids)}

    def end(self, topic: str) -> int:
        """Position of the newest event of a topic; 0 when there is none."""
        return self.store.end(topic)[place(topic)]

    def events(self, topic: str, after: int = 0) -> Iterator[tuple[int, events_pb2.Event]]:
        """Position and event of all that a topic holds after a position, oldest first; what cannot be read is left out."""
        for record in read_all(self.store, topic, {place(topic): after}):
            if record.event is None:
                logger.error("%s %d is left out: %s", topic, record.offset, record.problem)
            else:
                yield record.offset, record.event


def _too_large(end: events_pb2.Event, error: EventTooLarge) -> None:
    logger.error("the end of response %s is not kept, votes on it teach nothing: %s", end.event_id, error)

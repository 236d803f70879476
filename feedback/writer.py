"""Group commit: many callers, one thread that writes all that waits in one transaction.

A commit costs the same fsync for one event as for five hundred, so under load events share it, and alone one does not
wait for company.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from feedback.log import Event, Log, pack, topic_of
from heliotrope.errors import HeliotropeError, LogError, ResourceExhausted, Unavailable
from heliotrope.failpoints import reach

SCHEMA = 1

Outcome = int | HeliotropeError
"""An event's offset, or why it is not kept."""


@dataclass
class Call:
    """The events of one caller, who is told once the last of them has its outcome."""

    future: asyncio.Future[list[int]]
    outcomes: list[Outcome | None]
    left: int

    @classmethod
    def of(cls, count: int) -> Call:
        """Of so many events, by a task of the running event loop."""
        return cls(asyncio.get_running_loop().create_future(), [None] * count, count)

    def tell(self) -> None:
        """On the caller's event loop. One who has gone away meanwhile is passed over."""
        if self.future.done():
            return
        if failed := next((o for o in self.outcomes if isinstance(o, HeliotropeError)), None):
            self.future.set_exception(failed)
        else:
            self.future.set_result([o for o in self.outcomes if isinstance(o, int)])


Item = tuple[Event, Call, int]
"""An event, whose it is, and its place among that caller's."""


class LogWriter:
    """The one producer of a log. `capacity`: most events that wait; `batch`: most events of one transaction.
    `admit` raises what a caller hears whose events are not taken.

    Each event is stamped, where its fields are unset, with producer_id, sequence (from 1, rising in the order of the
    calls), time and schema. The event belongs to the writer from then on: do not change it.
    """

    def __init__(
        self,
        log: Log,
        *,
        capacity: int = 8192,
        batch: int = 512,
        clock: Callable[[], float] = time.time,
        admit: Callable[[Sequence[Event]], None] = lambda events: None,
    ) -> None:
        self.log, self.capacity, self.batch, self.clock = log, capacity, batch, clock
        self._admit = admit
        self.producer_id = str(uuid.uuid4())
        self._sequence = 0
        self._queue: deque[Item] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    async def append(self, events: Sequence[Event]) -> list[int]:
        """Wait until all are durable; their offsets. Not always in one transaction: when it raises, none is on its way any
        more, and some may have been kept. A cancelled wait takes nothing back.

        Raises InvalidInput at once, ResourceExhausted when the queue is full, and what the log raised for a batch.
        """
        return await self._queued(events) if events else []

    def _queued(self, events: Sequence[Event]) -> asyncio.Future[list[int]]:
        """Queue the events, all or none; their offsets to come."""
        for event in events:
            topic_of(event)
        self._admit(events)
        call = Call.of(len(events))
        with self._wake:
            if self._stopping:
                raise Unavailable(
                    "the log's writer has stopped; nothing was recorded, try again once serving is up"
                )
            if len(self._queue) + len(events) > self.capacity:
                raise ResourceExhausted(
                    f"{len(self._queue)} events wait for the log, which takes {self.capacity}, and {len(events)} came; try again shortly"
                )
            self._queue.extend([(self._stamp(event), call, place) for place, event in enumerate(events)])
            self._wake.notify()
        return call.future

    def stop(self) -> None:
        """Write all that waits, then end the thread; a second call does nothing. The log stays open."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def _stamp(self, event: Event) -> Event:
        event.producer_id = event.producer_id or self.producer_id
        if not event.HasField("time"):
            event.time.FromNanoseconds(int(self.clock() * 1e9))
        event.schema = event.schema or SCHEMA
        event.sequence = event.sequence or self._sequence + 1
        pack(
            event
        )  # refuses here, so that one bad event fails its own caller and not the others of its batch
        self._sequence = max(self._sequence, event.sequence)
        return event

    def _run(self) -> None:
        taken: list[Item] = []
        try:
            while taken := self._take():
                self._commit(taken)
                taken = []
        finally:
            with self._wake:
                self._stopping = True
                left = [*taken, *self._queue]
            _tell(left, LogError("the log's writer ended unexpectedly; restart serving"))

    def _take(self) -> list[Item]:
        """Wait for events; empty only when stopped and drained."""
        with self._wake:
            self._wake.wait_for(lambda: self._queue or self._stopping)
            return [self._queue.popleft() for _ in range(min(self.batch, len(self._queue)))]

    def _commit(self, items: list[Item]) -> None:
        try:
            offsets = self.log.append([event for event, _, _ in items])
        except HeliotropeError as error:
            _tell(items, error)
            return
        reach("between commit and reply")
        _tell(items, offsets)


def _tell(items: Sequence[Item], outcome: Sequence[int] | HeliotropeError) -> None:
    """Give each event its offset, or all the same error; each event loop is woken once, not once an event."""
    done: dict[asyncio.AbstractEventLoop, list[Call]] = {}
    outcomes = [outcome] * len(items) if isinstance(outcome, HeliotropeError) else outcome
    for (_, call, place), one in list(zip(items, outcomes, strict=True)):
        call.outcomes[place] = one
        call.left -= 1
        if not call.left:
            done.setdefault(call.future.get_loop(), []).append(call)
    for loop, calls in done.items():
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits there any more
            loop.call_soon_threadsafe(_tell_all, calls)


def _tell_all(calls: Sequence[Call]) -> None:
    for call in calls:
        call.tell()

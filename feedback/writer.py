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
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from feedback.log import Event, Log, pack, topic_of
from heliotrope.errors import HeliotropeError, LogError, ResourceExhausted, Unavailable
from heliotrope.failpoints import reach

SCHEMA = 1

Waiter = Future[int] | asyncio.Future[int]
"""Who waits for an event's offset: a thread, or a task of an event loop."""
Item = tuple[Event, Waiter]
W = TypeVar("W", Future[int], asyncio.Future[int])


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
        waiting = self._take_in(events, asyncio.get_running_loop().create_future)
        for future in waiting:
            future.add_done_callback(_retrieve)
        if waiting:
            await asyncio.wait(waiting)
        return [future.result() for future in waiting]

    def submit(self, events: Iterable[Event]) -> list[Future[int]]:
        """Queue the events without waiting, all or none; futures of their offsets. For any thread."""
        return self._take_in(events, Future)

    def _take_in(self, events: Iterable[Event], waiter: Callable[[], W]) -> list[W]:
        """Queue the events, all or none, each with somebody who waits for its outcome."""
        events = list(events)
        for event in events:
            topic_of(event)
        self._admit(events)
        with self._wake:
            if self._stopping:
                raise Unavailable(
                    "the log's writer has stopped; nothing was recorded, try again once serving is up"
                )
            if len(self._queue) + len(events) > self.capacity:
                raise ResourceExhausted(
                    f"{len(self._queue)} events wait for the log, which takes {self.capacity}, and {len(events)} came; try again shortly"
                )
            items = [(self._stamp(event), waiter()) for event in events]
            self._queue.extend(items)
            self._wake.notify()
        return [future for _, future in items]

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
                left = [future for _, future in (*taken, *self._queue)]
            _tell(left, LogError("the log's writer ended unexpectedly; restart serving"))

    def _take(self) -> list[Item]:
        """Wait for events; empty only when stopped and drained."""
        with self._wake:
            self._wake.wait_for(lambda: self._queue or self._stopping)
            return [self._queue.popleft() for _ in range(min(self.batch, len(self._queue)))]

    def _commit(self, items: list[Item]) -> None:
        live = [item for item in items if _goes_on(item[1])]
        try:
            offsets = self.log.append([event for event, _ in live])
        except HeliotropeError as error:
            _tell([future for _, future in live], error)
            return
        reach("between commit and reply")
        _tell([future for _, future in live], offsets)


def _goes_on(future: Waiter) -> bool:
    """Whether an event is still to be written: who submitted it from a thread may have taken it back."""
    return isinstance(future, asyncio.Future) or future.set_running_or_notify_cancel()


def _tell(waiting: Sequence[Waiter], outcome: Sequence[int] | Exception) -> None:
    """Give everybody their offset, or all the same error; each event loop is woken once, not once an event."""
    on_loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[int], int | Exception]]] = {}
    for number, future in enumerate(waiting):
        one = outcome if isinstance(outcome, Exception) else outcome[number]
        if isinstance(future, asyncio.Future):
            on_loops.setdefault(future.get_loop(), []).append((future, one))
        else:
            _settle([(future, one)])
    for loop, told in on_loops.items():
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits there any more
            loop.call_soon_threadsafe(_settle, told)


def _settle(told: Sequence[tuple[Waiter, int | Exception]]) -> None:
    """Those who have gone away meanwhile are passed over."""
    for future, outcome in told:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _retrieve(future: asyncio.Future[int]) -> None:
    """Look at the outcome, so that an abandoned wait leaves no 'never retrieved' warning."""
    if not future.cancelled():
        future.exception()

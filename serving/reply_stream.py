"""The stream of one reply: the pieces of one or two answers, interleaved as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from serving.answer import Answer, Delta, Ended
from serving.ask import Plan

NO_IDENTITY = "no identity was sent: answers can be judged only with metadata x-heliotrope-user"
NO_LOG = "the feedback log takes no events at present: this answer is not recorded"


@dataclass
class Reply:
    """One or two answers on their way. answers: in the order A, B."""

    plan: Plan
    item_id: str = ""
    answers: list[Answer] = field(default_factory=list)
    queue: asyncio.Queue[Delta | Ended] = field(default_factory=asyncio.Queue)

    async def begun(self) -> None:
        """Wait until every answer's start is in the log, or known not to be."""
        for answer in self.answers:
            await answer.begun.wait()

    @property
    def no_feedback_reason(self) -> str:
        """Why these answers cannot be judged; empty when they can."""
        if not self.plan.ask.caller.user:
            return NO_IDENTITY
        return "" if all(a.logged for a in self.answers) else NO_LOG

    async def events(self) -> AsyncGenerator[Delta | Ended, None]:
        """Deltas and ends as they come, deltas that wait together merged; returns when every end is in the log.

        Raises the engine's error when every answer was lost.
        """
        running = len(self.answers)
        while running:
            waiting = [await self.queue.get()]
            while not self.queue.empty():
                waiting.append(self.queue.get_nowait())
            for event in merged(waiting):
                running -= isinstance(event, Ended)
                self._count(event)
                yield event
        await asyncio.shield(asyncio.gather(*(a.task for a in self.answers if a.task)))
        errors = [a.error for a in self.answers if a.error]
        if len(errors) == len(self.answers):
            raise errors[0]

    def _count(self, event: Delta | Ended) -> None:
        if isinstance(event, Delta):
            next(a for a in self.answers if a.response_id == event.response_id).sent += event.tokens

    def stop(self) -> None:
        """End what still runs; it is recorded in the background."""
        for answer in self.answers:
            answer.stop()


def merged(events: list[Delta | Ended]) -> list[Delta | Ended]:
    """The same events with the deltas of one answer joined; an end comes after the deltas of its answer."""
    deltas: dict[str, Delta] = {}
    for event in events:
        if isinstance(event, Delta):
            before = deltas.get(event.response_id, Delta(event.response_id, "", 0))
            deltas[event.response_id] = Delta(
                event.response_id, before.text + event.text, before.tokens + event.tokens
            )
    return [*deltas.values(), *(e for e in events if isinstance(e, Ended))]

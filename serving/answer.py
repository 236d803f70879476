"""One answer from its first committed event to its last, in a task of its own.

The task owns the answer's lease on an adapter and its seat, so a caller that goes away, a dead engine or a stopping
server all end the same way: generation closed, `ResponseServed` committed, lease and seat given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from heliotrope.chat import ChatFormat, Message
from heliotrope.errors import HeliotropeError, LogError, ResourceExhausted
from heliotrope.v1 import common_pb2, events_pb2
from serving.engine import Piece
from serving.journal import Journal, Origin

logger = logging.getLogger(__name__)

ROLES = {
    "system": common_pb2.ROLE_SYSTEM,
    "user": common_pb2.ROLE_USER,
    "assistant": common_pb2.ROLE_ASSISTANT,
}
FINISHES = {"stop": common_pb2.FINISH_REASON_STOP, "length": common_pb2.FINISH_REASON_LENGTH}


@dataclass(frozen=True)
class Delta:
    """More text of one answer. tokens: how many it stands for."""

    response_id: str
    text: str
    tokens: int


@dataclass(frozen=True)
class Ended:
    """One answer ended after this many tokens."""

    response_id: str
    finish: common_pb2.FinishReason
    tokens: int


@dataclass(frozen=True)
class Draft:
    """What is known of an answer before its first token."""

    started: events_pb2.ResponseStarted
    origin: Origin
    messages: tuple[Message, ...]
    prompt_ids: tuple[int, ...]
    pieces: Callable[[], AsyncIterator[Piece]]
    replayed: bool
    asked_at: float


@dataclass
class Answer:
    """A running answer. logged: its `ResponseStarted` is durable. sent: tokens that the caller has been given."""

    draft: Draft
    journal: Journal
    format: ChatFormat
    emit: Callable[[Delta | Ended], None]
    on_close: Callable[[Answer], None]
    logged: bool = False
    sent: int = 0
    text: str = ""
    finish: common_pb2.FinishReason = common_pb2.FINISH_REASON_UNSPECIFIED
    error: HeliotropeError | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    first_at: float = 0.0
    last_at: float = 0.0
    task: asyncio.Task[None] | None = None
    entered: bool = False
    stopping: bool = False
    starting: asyncio.Task[None] | None = None

    @property
    def response_id(self) -> str:
        """UUID of the response, which is also the id of its ResponseStarted event."""
        return self.draft.started.response_id

    @property
    def version(self) -> str:
        """The policy version that answers."""
        return self.draft.started.adapter.policy_version

    @property
    def queued_tokens(self) -> int:
        """Tokens of the prompt while it waits for its first token; 0 from then on."""
        return 0 if self.first_at or self.finish else len(self.draft.prompt_ids)

    def start(self) -> None:
        """Run in the background from now on."""
        self.task = asyncio.create_task(self._run(), name=f"answer {self.response_id}")

    def stop(self) -> None:
        """End the generation; what was drawn so far is recorded. Further calls do nothing."""
        if self.task and self.entered and not self.finish and not self.stopping:
            self.task.cancel()
        self.stopping = True

    async def _run(self) -> None:
        finish, self.entered = common_pb2.FINISH_REASON_LOST, True
        try:
            if self.stopping:  # a task cancelled before its first step would never run its `finally`
                raise asyncio.CancelledError
            self.starting = asyncio.create_task(self._begin(), name=f"start of {self.response_id}")
            finish = await self._draw(self.starting)
        except asyncio.CancelledError:
            finish = common_pb2.FINISH_REASON_CANCELLED
        except HeliotropeError as error:
            logger.warning("response %s was lost: %s", self.response_id, error)
            self.error = error
        finally:
            await self._close(finish)

    async def _begin(self) -> None:
        """Commit the start. A task of its own: the model reads the prompt meanwhile, and no cancel parts the two."""
        started = self.draft.started
        event = self.journal.event(started.response_id, self.draft.origin)
        event.response_started.CopyFrom(started)
        try:
            await self.journal.commit(event)
            self.logged = True
        except (LogError, ResourceExhausted) as error:
            logger.error("the log takes no events, chat goes on unlogged: %s", error)
        self.begun.set()

    async def _draw(self, start: asyncio.Task[None]) -> common_pb2.FinishReason:
        """Every piece, none before the start is in the log or known not to be."""
        stream, unsent, finish = self.format.stream(), 0, None
        async with contextlib.aclosing(self.draft.pieces()) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                if not self.token_ids:
                    await asyncio.shield(start)
                self._record(piece)
                unsent, finish = unsent + len(piece.token_ids), piece.finish
                text = stream.push(piece.token_ids) + (stream.flush() if finish else "")
                if text:
                    self._emit_text(text, unsent)
                    unsent = 0
                if finish:
                    break
        return FINISHES[finish] if finish else common_pb2.FINISH_REASON_LOST

    def _record(self, piece: Piece) -> None:
        self.last_at = time.monotonic()
        self.first_at = self.first_at or self.last_at
        self.token_ids.extend(piece.token_ids)
        self.logprobs.extend(piece.logprobs)

    def _emit_text(self, text: str, tokens: int) -> None:
        self.text += text
        self.emit(Delta(self.response_id, text, tokens))

    async def _close(self, finish: common_pb2.FinishReason) -> None:
        """Nothing cancels this part: stop() is deaf once `finish` is set."""
        self.finish = finish
        try:
            if self.starting:
                await asyncio.wait([self.starting])
            self.begun.set()
            self.emit(Ended(self.response_id, finish, len(self.token_ids)))
            if self.logged:
                await self.journal.close_late(self.served())
        finally:
            self.on_close(self)

    def served(self) -> events_pb2.Event:
        """The ResponseServed event; its id follows from the response's, so that one response closes once."""
        draft = self.draft
        event = self.journal.event(served_id(self.response_id), draft.origin)
        served = event.response_served
        served.response_id, served.text, served.finish_reason = self.response_id, self.text, self.finish
        served.started.CopyFrom(draft.started)
        served.messages.extend(
            common_pb2.Message(role=ROLES[m.role], content=m.content) for m in draft.messages
        )
        served.prompt_token_ids.extend(draft.prompt_ids)
        served.response_token_ids.extend(self.token_ids)
        served.logprobs.extend(self.logprobs)
        usable = not draft.replayed and draft.started.sampling.temperature > 0
        served.propensity = common_pb2.PROPENSITY_PROCESSED if usable else common_pb2.PROPENSITY_NONE
        served.envelope.CopyFrom(self.format.envelope)
        if self.token_ids:
            served.first_token_seconds = self.first_at - draft.asked_at
            served.total_seconds = self.last_at - draft.asked_at
        return event


def served_id(response_id: str) -> str:
    """Id of the event that closes a response."""
    return str(uuid.uuid5(uuid.UUID(response_id), "served"))

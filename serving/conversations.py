"""Server-held conversations: trees of turns, bounded in memory, rebuilt from the log at start.

A turn is one user message with one answer; the two answers of a comparison are two turns with the same parent. After a
comparison the chosen answer is continued; after a tie, a skip or both bad the left one, unless the person answers the other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from heliotrope.chat import Message
from heliotrope.errors import FailedPrecondition, NotFound, PermissionDenied
from heliotrope.v1 import common_pb2, events_pb2, feedback_pb2
from serving.caller import Caller

MAX_CONVERSATIONS = 20_000
MAX_TURNS = 512
SETTLE_SECONDS = 2.0
MAX_TRANSCRIPT = 1_000_000


@dataclass
class Turn:
    """One message with one answer. parent: the response that the message continues, or empty at the root.
    shown: the answers that were given together, in the order A, B."""

    response_id: str
    parent: str
    message: str
    shown: tuple[str, ...]
    text: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Conversation:
    """A tree of turns that belongs to one person. newest: the response that the next message answers by default."""

    conversation_id: str
    tenant: str
    user: str
    turns: dict[str, Turn] = field(default_factory=dict)
    newest: str = ""


class Conversations:
    """The most recently used conversations, at most `limit`."""

    def __init__(self, limit: int = MAX_CONVERSATIONS) -> None:
        self._limit = limit
        self._held: OrderedDict[str, Conversation] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def find(self, conversation_id: str, caller: Caller) -> Conversation:
        """The caller's conversation. Raises NotFound, or PermissionDenied when it is another person's."""
        found = self._held.get(conversation_id)
        if found is None:
            raise NotFound(f"no conversation {conversation_id}; leave conversation_id empty to start one")
        if (found.tenant, found.user) != (caller.tenant, caller.user):
            raise PermissionDenied(
                f"conversation {conversation_id} is another person's; leave conversation_id empty to start one"
            )
        self._held.move_to_end(conversation_id)
        return found

    def begin(
        self, conversation_id: str, caller: Caller, parent: str, message: str, response_ids: Sequence[str],
        shown: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Add the turns of a new exchange, the left answer first; it becomes the newest. shown: when not all of it is added."""
        held = self._held.setdefault(
            conversation_id, Conversation(conversation_id, caller.tenant, caller.user)
        )
        for response_id in response_ids:
            held.turns[response_id] = Turn(response_id, parent, message, tuple(shown or response_ids))
        held.newest = response_ids[0]
        self._held.move_to_end(conversation_id)
        while len(self._held) > self._limit:
            self._held.popitem(last=False)

    def forget(self, tenant: str, user: str) -> None:
        """Drop all conversations of a person."""
        mine = [id for id, held in self._held.items() if (held.tenant, held.user) == (tenant, user)]
        for id in mine:
            del self._held[id]

    def finish(self, conversation_id: str, response_id: str, text: str) -> None:
        """Record an answer's text, complete or as far as it got."""
        held = self._held.get(conversation_id)
        if held and (turn := held.turns.get(response_id)):
            turn.text = text
            turn.ended.set()

    def choose(self, conversation_id: str, response_id: str) -> None:
        """Continue the chosen answer, unless the conversation has moved on from this comparison."""
        held = self._held.get(conversation_id)
        if held is None or response_id not in held.turns:
            return
        chosen, newest = held.turns[response_id], held.turns.get(held.newest)
        if newest and (newest.parent, newest.message) == (chosen.parent, chosen.message):
            held.newest = response_id

    def fold(self, event: events_pb2.Event) -> None:
        """Rebuild from one logged event, in the log's order."""
        kind = event.WhichOneof("what")
        if kind == "response_served":
            self._fold_served(event)
        elif kind == "feedback_given":
            chosen = chosen_response(
                event.feedback_given.feedback, [t.response_id for t in event.feedback_given.targets]
            )
            if chosen:
                self.choose(event.conversation_id, chosen)

    def _fold_served(self, event: events_pb2.Event) -> None:
        served = event.response_served
        started = served.started
        if started.history == common_pb2.HISTORY_KEEPER_CLIENT or not served.messages:
            return
        caller = Caller(event.tenant, event.user)
        held = self._held.get(event.conversation_id)
        kept = held.newest if held and held.newest in started.sibling_response_ids else ""
        self.begin(
            event.conversation_id,
            caller,
            started.parent_response_id,
            served.messages[-1].content,
            [served.response_id],
            _together(started),
        )
        self.finish(event.conversation_id, served.response_id, served.text)
        if kept and started.side == common_pb2.SIDE_B:
            self._held[event.conversation_id].newest = kept


def _together(started: events_pb2.ResponseStarted) -> tuple[str, ...]:
    others = tuple(started.sibling_response_ids)
    is_second = started.side == common_pb2.SIDE_B
    return (*others, started.response_id) if is_second else (started.response_id, *others)


def chosen_response(feedback: feedback_pb2.Feedback, response_ids: Sequence[str]) -> str:
    """The answer that a comparison chose, of those in the order A, B; empty when it chose none."""
    choice = feedback.comparison.choice
    if feedback.WhichOneof("kind") != "comparison" or choice not in (
        feedback_pb2.CHOICE_A,
        feedback_pb2.CHOICE_B,
    ):
        return ""
    return response_ids[0 if choice == feedback_pb2.CHOICE_A else 1]


async def history_of(conversation: Conversation, parent: str) -> list[Message]:
    """The messages from the root to the answer `parent`, waiting a moment for one that is just ending.

    Raises NotFound for an unknown parent, FailedPrecondition when it is still being written or the tree is full.
    """
    if parent not in conversation.turns:
        raise NotFound(
            f"no response {parent} in conversation {conversation.conversation_id}; name one of its responses or none"
        )
    if len(conversation.turns) >= MAX_TURNS:
        raise FailedPrecondition(
            f"the conversation has {len(conversation.turns)} turns, the most there can be; start a new one"
        )
    messages: list[Message] = []
    while parent:
        turn = conversation.turns.get(parent)
        if turn is None:
            raise FailedPrecondition(
                f"response {parent} of this conversation was never recorded, so it cannot be continued; start a new one"
            )
        await _settled(turn)
        messages[:0] = [Message("user", turn.message), Message("assistant", turn.text)]
        parent = turn.parent
    return messages


async def transcript(conversation: Conversation, most_bytes: int = MAX_TRANSCRIPT) -> list[tuple[Turn, bool]]:
    """The answers on the way to the newest, oldest first, each with its pair, and whether the way leads through it.

    One that is just ending is waited for; the oldest that do not fit into `most_bytes` are left out.
    """
    way, parent, size = [], conversation.newest, 0
    while turn := conversation.turns.get(parent):
        pair = [conversation.turns[i] for i in turn.shown if i in conversation.turns]
        for one in pair:
            with contextlib.suppress(FailedPrecondition):
                await _settled(one)
        size += sum(len(t.message.encode()) + len(t.text.encode()) for t in pair)
        if size > most_bytes:
            break
        way[:0] = [(one, one is turn) for one in pair]
        parent = turn.parent
    return way


async def _settled(turn: Turn) -> None:
    try:
        await asyncio.wait_for(turn.ended.wait(), SETTLE_SECONDS)
    except TimeoutError as error:
        raise FailedPrecondition(
            f"response {turn.response_id} is still being written; wait for its end or cancel it"
        ) from error

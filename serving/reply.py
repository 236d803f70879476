"""Decides how a chat request is answered: by which weights, once or twice, from which history, and whether it may be judged.

`rpc_chat` translates before and after; `Answer` and the engine act. Nothing is changed until everything has been checked.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from feedback.log import MAX_BYTES
from heliotrope.chat import ChatFormat, Message
from heliotrope.errors import AlreadyExists, InvalidInput, NotFound, Unavailable
from heliotrope.identity import event_id
from heliotrope.v1 import chat_pb2, common_pb2, events_pb2
from serving.admission import admit
from serving.answer import Answer, Draft
from serving.ask import Ask, Limits, Plan, response_id
from serving.caller import Caller
from serving.comparisons import SIDES, Comparisons
from serving.conversations import Conversations, history_of
from serving.engine import Engine, Piece, Sampling, check_room
from serving.journal import Journal, Origin
from serving.muster import Muster
from serving.reply_stream import Reply
from serving.routes import Lease, Routes
from serving.shared_items import SharedItems, Take

SHORT = 1024
"""Bytes of a conversation that takes half a millisecond to read; a message more costs as much as `MESSAGE` of them."""
MESSAGE = 64


@dataclass
class Replies:
    """Opens replies and knows those in flight. changed: called when their number has changed. allows: whether a person
    lets what they give be learned from. leaving: tenants and pseudonyms who are being forgotten right now."""

    engine: Engine
    format: ChatFormat
    routes: Routes
    journal: Journal
    conversations: Conversations
    comparisons: Comparisons
    shared: SharedItems
    limits: Limits
    changed: Callable[[], None] = lambda: None
    allows: Callable[[Caller], bool] = lambda caller: True
    running: dict[str, Answer] = field(default_factory=dict)
    leaving: Counter[tuple[str, str]] = field(default_factory=Counter)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    muster: Muster = field(default_factory=Muster)
    _asking: set[str] = field(default_factory=set)

    async def open(self, ask: Ask) -> Reply:
        """Check, plan and start the answers of one request; returns when votes on them are valid.

        Raises AlreadyExists for a repeated request_id, ResourceExhausted when all seats are taken, and whatever the
        request itself gets wrong; then nothing was changed.
        """
        key = event_id(ask.caller.user, ask.request_id)
        if ask.caller.user and key in self._asking:
            raise AlreadyExists(
                f"request_id {ask.request_id!r} is being answered right now; wait, or use a new one for a new answer"
            )
        self._asking.add(key)
        try:
            reply = self._start(await self._plan(ask))
            try:
                await reply.begun()
            except asyncio.CancelledError:
                reply.stop()
                raise
            return reply
        finally:
            self._asking.discard(key)

    async def _plan(self, ask: Ask) -> Plan:
        self._refuse_repeat(ask)
        parent, messages, conversation = ask.parent, [*ask.history], None
        if ask.conversation_id:
            conversation = self.conversations.find(ask.conversation_id, ask.caller)
            parent = parent or conversation.newest
            messages = await history_of(conversation, parent)
        if not ask.history:
            messages.append(Message("user", ask.message))
        conversation_id = ask.conversation_id or str(uuid.uuid4())
        if (size := sum(len(m.content.encode()) for m in messages)) > MAX_BYTES:
            raise InvalidInput(
                f"the conversation has {size} bytes, over {MAX_BYTES}; shorten it or start a new one"
            )
        prompt_ids = await self._prompt_ids(messages, size)
        sampling = self._sampling(ask, prompt_ids, messages)
        await self.routes.prepare(ask.policy)
        consent = ask.consent and self.allows(ask.caller)
        origin = Origin(ask.caller, conversation_id, ask.source, ask.purpose, consent)
        return Plan(
            ask, conversation_id, parent, tuple(messages), tuple(prompt_ids), sampling, origin, conversation
        )

    async def _prompt_ids(self, messages: list[Message], size: int) -> list[int]:
        """A short conversation is read in less time than a thread is woken in; a long one must not hold others up."""
        if size + len(self.format.system) + MESSAGE * len(messages) <= SHORT:
            return self.format.prompt_ids(messages)
        return await asyncio.to_thread(self.format.prompt_ids, messages)

    def _refuse_repeat(self, ask: Ask) -> None:
        if not ask.caller.user:
            return
        ids = [response_id(ask, i) for i in range(2)]
        known = [i for i in ids if i in self.running or self.journal.find(i)]
        if known:
            raise AlreadyExists(
                f"request_id {ask.request_id!r} was answered by response {' and '.join(known)}; use a new one for a new answer"
            )

    def _refuse_forgotten(self, plan: Plan) -> None:
        """Planning waits for threads, and meanwhile the person may have been erased: what was read of the conversation
        would be said, and sealed under a new key, again."""
        caller = plan.ask.caller
        if self.leaving[caller.tenant, caller.user]:
            raise Unavailable("what you gave is being erased; try again in a moment")
        if (held := plan.conversation) and self.conversations.find(plan.conversation_id, caller) is not held:
            raise NotFound(
                f"conversation {plan.conversation_id} is gone; leave conversation_id empty to start one"
            )

    def _sampling(self, ask: Ask, prompt_ids: list[int], messages: list[Message]) -> Sampling:
        room = self.engine.max_model_len - len(prompt_ids)
        longest = ask.max_tokens if ask.max_tokens is not None else max(1, min(self.limits.max_tokens, room))
        check_room(prompt_ids, longest, self.engine.max_model_len)
        size = sum(len(m.content.encode()) for m in messages) + 4 * len(prompt_ids) + 16 * longest
        if size > MAX_BYTES:
            raise InvalidInput(
                f"the conversation makes a record of about {size} bytes, over {MAX_BYTES}; shorten it or start a new one"
            )
        return Sampling(ask.temperature, longest)

    def _start(self, plan: Plan) -> Reply:
        """Decide the answers and set them off; without an await, so that seats and leases are never half taken."""
        self._refuse_forgotten(plan)
        count = 2 if self._compares(plan) else 1
        admit(self.running.values(), count, len(plan.prompt_ids), self.limits)
        reply = Reply(plan)
        leases = [self.routes.take(plan.ask.policy) for _ in range(count)]
        takes = self._takes(reply) if count == 2 else None
        for draft, lease in self._drafts(reply, leases, takes):
            self._answer(reply, draft, lease)
        if not plan.ask.history:
            ids = [a.response_id for a in reply.answers]
            self.conversations.begin(
                plan.conversation_id, plan.ask.caller, plan.parent, plan.ask.message, ids
            )
        for answer in reply.answers:
            answer.start()
        return reply

    def _compares(self, plan: Plan) -> bool:
        free = self.limits.max_chats - len(self.running)
        wish = (
            plan.ask.wish
            if free > 1 or plan.ask.wish == chat_pb2.COMPARISON_WISH_ON
            else chat_pb2.COMPARISON_WISH_OFF
        )
        return not plan.ask.policy and self.comparisons.granted(wish, bool(plan.ask.caller.user))

    def _takes(self, reply: Reply) -> list[Take] | None:
        """The stored pair of a shared prompt; or None, with the item claimed when this pair can found it."""
        plan = reply.plan
        if plan.ask.history or plan.ask.conversation_id or plan.ask.message not in self.shared:
            return None
        stored = self.shared.stored(plan.ask.message)
        if stored is None:
            reply.item_id = self.shared.found(plan.ask.message, response_id(plan.ask, 0))
            return None
        wanted = common_pb2.Sampling(
            temperature=plan.sampling.temperature, max_tokens=plan.sampling.max_tokens
        )
        if any(take.sampling != wanted for take in stored[1]):
            return None
        reply.item_id = stored[0]
        return stored[1]

    def _drafts(
        self, reply: Reply, leases: list[tuple[common_pb2.AdapterRef, Lease]], takes: list[Take] | None
    ) -> list[tuple[Draft, Lease]]:
        plan, count = reply.plan, len(leases)
        ids = [response_id(plan.ask, i) for i in range(count)]
        arms = self.comparisons.sided(
            [(ref, lease, takes[i] if takes else None) for i, (ref, lease) in enumerate(leases)]
        )
        drafts = []
        for i, (ref, lease, take) in enumerate(arms):
            started = events_pb2.ResponseStarted(
                response_id=ids[i], parent_response_id=plan.parent, request_id=plan.ask.request_id, adapter=take.adapter if take else ref,
                sampling=common_pb2.Sampling(temperature=plan.sampling.temperature, max_tokens=plan.sampling.max_tokens),
                side=SIDES[i] if count == 2 else common_pb2.SIDE_UNSPECIFIED, sibling_response_ids=[x for x in ids if x != ids[i]],
                arm_probability=1.0, item_id=reply.item_id,
                history=common_pb2.HISTORY_KEEPER_CLIENT if plan.ask.history else common_pb2.HISTORY_KEEPER_SERVER,
            )  # fmt: skip
            draw = partial(self._draw, ids[i], plan, lease)
            pieces = take.pieces if take else draw
            drafts.append(
                (
                    Draft(
                        started,
                        plan.origin,
                        plan.messages,
                        plan.prompt_ids,
                        pieces,
                        take is not None,
                        plan.ask.asked_at,
                    ),
                    lease,
                )
            )
        return drafts

    async def _draw(self, id: str, plan: Plan, lease: Lease) -> AsyncIterator[Piece]:
        drawn = self.engine.generate(id, plan.prompt_ids, plan.sampling, lease.adapter)
        async with self.muster.drawing(), aclosing(drawn) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece

    def _answer(self, reply: Reply, draft: Draft, lease: Lease) -> None:
        answer = Answer(
            draft, self.journal, self.format, reply.queue.put_nowait, partial(self._closed, reply, lease)
        )
        reply.answers.append(answer)
        self.running[answer.response_id] = answer
        self.idle.clear()
        self.changed()

    def _closed(self, reply: Reply, lease: Lease, answer: Answer) -> None:
        lease.release()
        self.running.pop(answer.response_id, None)
        if not self.running:
            self.idle.set()
        self.changed()
        self.conversations.finish(reply.plan.conversation_id, answer.response_id, answer.text)
        if reply.item_id:
            self.shared.add(answer.served().response_served)

    def tokens_sent(self, response_id: str) -> int | None:
        """Tokens of a response that its asker has been given, while it is in flight; None when it is complete."""
        answer = self.running.get(response_id)
        return answer.sent if answer and not answer.finish else None

    def in_flight(self, version: str) -> int:
        """Answers of that version that have not ended."""
        return sum(answer.version == version and not answer.finish for answer in self.running.values())

    def stop(self, version: str | None = None) -> None:
        """End the answers in flight, of one version or of all."""
        for answer in list(self.running.values()):
            if version in (None, answer.version):
                answer.stop()

    async def drained(self, seconds: float) -> None:
        """Wait for the answers in flight, then stop what is left and wait for its record."""
        if not self.running:
            return
        try:
            await asyncio.wait_for(self.idle.wait(), seconds)
        except TimeoutError:
            self.stop()
            await self.idle.wait()

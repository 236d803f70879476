"""What a person decides about what they gave: whether it may be learned from, and that it is forgotten.

Erasure goes from *requested* (durable, then acknowledged) to *done*: serving destroys the person's key, which makes
their content unreadable wherever it lies, and forgets their conversations; the learner deletes what it derived and
confirms. What a kill interrupts is taken up at the next start: the requests are in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from feedback.log import FEEDBACK, Event, Log
from feedback.sealing import owner
from feedback.traces import Touched, touched
from heliotrope.errors import AlreadyExists, HeliotropeError, InvalidInput, LogError, NotFound
from heliotrope.identity import check_request_id, event_id
from serving.caller import Caller
from serving.journal import Journal, Origin
from serving.keys import KeyStore
from serving.reply import Replies

logger = logging.getLogger(__name__)

SERVING, LEARNER = PROGRAMS = ("serving", "learner")
"""Who must have deleted, for an erasure to be done."""


@dataclass
class Erasure:
    """One request. person: tenant and pseudonym. done: programs that have deleted what they held."""

    person: tuple[str, str]
    done: set[str] = field(default_factory=set)


@dataclass
class Privacy:
    """Consent and erasure. `recover` folds the log first. whole: the log from its beginning, of which the journal's file may
    have only the newest. erase: takes a person out of what serving derives from the log, given the ErasureRequested."""

    journal: Journal
    whole: Log
    keys: KeyStore
    replies: Replies
    erase: Callable[[Event], None]
    erasures: dict[str, Erasure] = field(default_factory=dict)
    consents: dict[tuple[str, str], bool] = field(default_factory=lambda: defaultdict(lambda: True))
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    def allows(self, caller: Caller) -> bool:
        """Whether this person lets what they give be learned from."""
        return self.consents.get((caller.tenant, caller.user), True)

    async def set_consent(self, caller: Caller, request_id: str, may_learn: bool) -> bool:
        """Record what a person allows; True when this request_id had done so before."""
        id = event_id(caller.user, check_request_id(request_id), "consent")
        event = self.journal.event(id, Origin(caller, consent=may_learn))
        event.consent_changed.may_learn = may_learn
        kept = self.journal.find(id) or await asyncio.shield(asyncio.ensure_future(self._decide(event)))
        if kept.consent_changed.may_learn != may_learn:
            raise AlreadyExists(f"request_id {request_id!r} said the contrary; use a new one")
        return kept is not event

    async def _decide(self, event: Event) -> Event:
        """What is in the log counts at once, whether or not the caller is still there."""
        kept = await self.journal.commit_once(event)
        if kept is event:
            self.fold(event)
        return kept

    async def forget(self, person: Caller, request_id: str) -> str:
        """Ask for a person's erasure and carry out serving's part; the erasure's id. Durable when it returns.

        Raises LogError when the request cannot be stored. What fails after that is tried again at the next start.
        """
        if not person.user:
            raise InvalidInput("nobody is named; give the pseudonym, 32 hex digits")
        id = event_id(person.user, check_request_id(request_id), "erasure")
        if id not in self.erasures or SERVING not in self.erasures[id].done:
            work = asyncio.create_task(self._forget(person, id), name=f"erasure {id}")
            self._under_way.add(work)
            work.add_done_callback(self._under_way.discard)
            await asyncio.shield(
                work
            )  # a caller that goes away does not stop half-way what the log may hold already
        return id

    async def _forget(self, person: Caller, id: str) -> None:
        with self._silent(person):
            if id not in self.erasures:
                await self._stop_answers(person)
                owed = self.journal.disown(person)
                event = self.journal.event(id, Origin(person))
                event.erasure_requested.erasure_id, event.erasure_requested.user = id, person.user
                try:
                    await self.journal.commit(event)
                except HeliotropeError:
                    self.journal.owed.extend(owed)
                    raise
                self.fold(event)
            await self._carry_out(id)

    async def confirm(self, erasure_id: str, program: str) -> None:
        """A program has deleted what it held. Raises NotFound, InvalidInput."""
        if program not in PROGRAMS:
            raise InvalidInput(f"program {program[:40]!r} is unknown; send {' or '.join(PROGRAMS)}")
        erasure = self.erasure(erasure_id)
        if program in erasure.done:
            return
        event = self.journal.event(event_id(erasure_id, program, "erased"), Origin(Caller(*erasure.person)))
        event.erasure_done.erasure_id, event.erasure_done.program = erasure_id, program
        await self.journal.commit(event)
        self.fold(event)

    def erasure(self, erasure_id: str) -> Erasure:
        """How far an erasure is. Raises NotFound."""
        if erasure_id not in self.erasures:
            raise NotFound(f"no erasure {erasure_id[:80]!r}; send the id that ForgetMe or Forget gave")
        return self.erasures[erasure_id]

    async def learned(self, erasure_id: str) -> Touched:
        """Versions that learned from the person. Raises NotFound, and LogError when the whole log cannot be read."""
        person = self.erasure(erasure_id).person
        registry = self.replies.routes.registry
        return await asyncio.to_thread(touched, self.whole, registry, person)

    def fold(self, event: Event) -> None:
        """Take one logged event in."""
        what = event.WhichOneof("what")
        if what == "consent_changed":
            self.consents[event.tenant, event.user] = event.consent_changed.may_learn
        elif what == "erasure_requested":
            asked = event.erasure_requested
            self.erasures.setdefault(asked.erasure_id, Erasure((event.tenant, asked.user)))
        elif what == "erasure_done" and event.erasure_done.erasure_id in self.erasures:
            self.erasures[event.erasure_done.erasure_id].done.add(event.erasure_done.program)

    async def recover(self) -> None:
        """Fold the log, and finish what a stop interrupted."""
        for _, event in self.journal.events(FEEDBACK):
            self.fold(event)
        for id in list(self.erasures):
            await self._carry_out(id)

    @contextmanager
    def _silent(self, person: Caller) -> Iterator[None]:
        """Nothing is answered to this person meanwhile, and no turn quotes what they said before: all that is recorded
        of it lies before the request, under the key that is destroyed."""
        who = (person.tenant, person.user)
        self.replies.leaving[who] += 1
        self.replies.conversations.forget(*who)
        try:
            yield
        finally:
            self.replies.leaving -= Counter([who])

    async def _stop_answers(self, person: Caller) -> None:
        """End what is being answered to this person, and wait for its record."""
        tasks = []
        for answer in list(self.replies.running.values()):
            caller = answer.draft.origin.caller
            if (caller.tenant, caller.user) == (person.tenant, person.user):
                answer.stop()
                if answer.task:
                    tasks.append(answer.task)
        if tasks:
            await asyncio.wait(
                tasks
            )  # and not gather: cancelled itself, it would cancel what closes the answers

    async def _carry_out(self, erasure_id: str) -> None:
        erasure = self.erasures[erasure_id]
        if SERVING in erasure.done:
            return
        try:
            await asyncio.to_thread(self.keys.destroy, owner(*erasure.person))
            await asyncio.to_thread(self._erase_derived, erasure_id)
            self.replies.conversations.forget(*erasure.person)
            await self.confirm(erasure_id, SERVING)
        except HeliotropeError as error:
            logger.error(
                "erasure %s is requested and not done, the next start tries again: %s", erasure_id, error
            )

    def _erase_derived(self, erasure_id: str) -> None:
        request = self.journal.find(erasure_id)
        if request is None:
            raise LogError(f"the log does not give event {erasure_id}, which asked for the erasure")
        self.erase(request)

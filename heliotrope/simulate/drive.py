"""Drives simulated people through the public API, as real ones would be: ask, read, pick, sometimes think
again.

What they give is marked `simulated`; a learner ignores it unless it is told otherwise (`learner.sources`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import count, cycle
from typing import Any

from heliotrope.client import AsyncClient, chat_request, comparison, feedback_request, thumb
from heliotrope.turn import Turn
from heliotrope.v1 import chat_pb2, common_pb2, feedback_pb2

from .judging import Reply
from .ledger import Ledger
from .people import Person, Population
from .prompts import asked

CHOICES = {
    "a": feedback_pb2.CHOICE_A,
    "b": feedback_pb2.CHOICE_B,
    "tie": feedback_pb2.CHOICE_TIE,
    "both_bad": feedback_pb2.CHOICE_BOTH_BAD,
    "skip": feedback_pb2.CHOICE_SKIP,
}
SWAPPED = {"a": "b", "b": "a"}


@dataclass(frozen=True)
class Plan:
    """How many people ask how much. concurrency: people at once, each reading two answers.

    shared_every: every so many comparisons the prompt comes from the pool of shared items (`shared` prompts).
    max_tokens, temperature: of the answers. seed: same people, same questions, same order.
    """

    comparisons: int = 300
    people: int = 100
    concurrency: int = 16
    seed: int = 1
    shared: int = 10
    shared_every: int = 6
    max_tokens: int = 48
    temperature: float = 0.8


def shared_prompts(count: int) -> tuple[str, ...]:
    """The first `count` asked prompts: the pool from which agreement is measured."""
    return asked()[:count]


def user_id(seed: int, person: Person) -> str:
    """The identity (32 hex digits) with which this person comes back in every run of the seed."""
    return sha256(f"heliotrope simulated person {seed} {person.name}".encode()).hexdigest()[:32]


def visits(plan: Plan, population: Population) -> Iterator[tuple[Person, str]]:
    """Who asks what, in order, without end. People come in turn, and in a turn of their own to the shared prompts: a shared
    prompt is seen by different people until all who ever come to it have been there."""
    rng = random.Random(f"visits {plan.seed}")
    own = list(asked()[plan.shared :])
    rng.shuffle(own)
    prompts, pool = cycle(own), shared_prompts(plan.shared)
    for number in count():
        turn, rest = divmod(number, plan.shared_every)
        if pool and not rest:
            yield population[turn], pool[turn % len(pool)]
        else:
            yield population[number], next(prompts)


class Crowd:
    """The people of one run. `on_change` is called after every comparison."""

    def __init__(
        self, client: AsyncClient, plan: Plan, on_change: Callable[[Ledger], None] = lambda _: None
    ) -> None:
        self.client, self.plan, self.ledger, self.on_change = client, plan, Ledger(), on_change
        self._visits = visits(plan, Population(plan.seed, plan.people))

    async def compare(self) -> Ledger:
        """All comparisons of the plan. Raises Unavailable when serving is gone."""
        left = iter(range(self.plan.comparisons))

        async def come_and_go() -> None:
            for _ in left:
                await self._compare(*next(self._visits))
                self.on_change(self.ledger)

        people = [asyncio.create_task(come_and_go()) for _ in range(self.plan.concurrency)]
        try:
            await asyncio.gather(*people)
        finally:
            await _stop(people)
        return self.ledger

    async def keep_chatting(self, wanted: Callable[[], int], done: asyncio.Event) -> Ledger:
        """As many single chats at once as `wanted()` says, without votes, until `done`; those begun are
        finished."""
        chats: set[asyncio.Task[None]] = set()
        finish = asyncio.create_task(done.wait())
        try:
            while not done.is_set():
                while len(chats) < wanted():
                    chats.add(asyncio.create_task(self._only_chat(*next(self._visits))))
                ended, _ = await asyncio.wait(
                    {finish, *chats}, timeout=0.25, return_when=asyncio.FIRST_COMPLETED
                )
                for task in ended & chats:
                    task.result()
                chats -= ended
            await asyncio.gather(*chats)
        finally:
            await _stop([finish, *chats])
        return self.ledger

    async def _only_chat(self, person: Person, prompt: str) -> None:
        await self._ask(person, prompt, chat_pb2.COMPARISON_WISH_OFF)

    async def _compare(self, person: Person, prompt: str) -> None:
        turn = await self._ask(person, prompt, chat_pb2.COMPARISON_WISH_ON)
        if turn is None:
            return
        if not (turn.compared and turn.ticket):
            self.ledger.uncompared += 1
            return
        a, b = (reply(turn, key) for key in turn.response_ids)
        choice = person.choose(prompt, a, b)
        if not await self._give(person, turn, comparison(CHOICES[choice])):
            return
        self.ledger.choices[choice] += 1
        second = person.reconsider(prompt, a, b, choice)
        if second and await self._give(person, turn, comparison(CHOICES[second])):
            self.ledger.changed += 1
            choice = second
        if turn.item_id:
            self.ledger.votes.append((turn.item_id, person.name, by_item(turn, choice)))
        await self._maybe_thumb(person, prompt, turn, 1 if choice == "b" else 0)

    async def _maybe_thumb(self, person: Person, prompt: str, turn: Turn, liked: int) -> None:
        response_id = turn.response_ids[liked]
        press = person.thumb(prompt, reply(turn, response_id))
        if press and await self._give(person, turn, thumb(response_id, press == "up")):
            self.ledger.thumbs += 1

    async def _ask(self, person: Person, prompt: str, wish: chat_pb2.ComparisonWish) -> Turn | None:
        """The finished turn; None when it failed, which is counted."""
        sampling = common_pb2.Sampling(temperature=self.plan.temperature, max_tokens=self.plan.max_tokens)
        request = chat_request(prompt, sampling=sampling, comparison=wish, source=common_pb2.SOURCE_SIMULATED)

        async def whole() -> Turn:
            turn = Turn()
            async for chunk in self._as(person).chat(request):
                turn.push(chunk)
            turn.end()
            return turn

        turn = await self.ledger.call(whole())
        self.ledger.answers += len(turn.response_ids) if turn else 0
        return turn

    async def _give(self, person: Person, turn: Turn, feedback: feedback_pb2.Feedback) -> bool:
        given = await self.ledger.call(self._as(person).give(feedback_request(turn.ticket, feedback)))
        return given is not None

    def _as(self, person: Person) -> AsyncClient:
        return self.client.as_person(user_id(self.plan.seed, person))


async def _stop(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel what still runs and wait until it has closed its calls."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def reply(turn: Turn, response_id: str) -> Reply:
    """One answer as people read it."""
    return Reply(turn.texts[response_id], turn.whole.get(response_id, False), turn.tokens.get(response_id, 0))


def by_item(turn: Turn, choice: str) -> str:
    """The choice by the item's own sides (the texts in alphabetical order), whatever side each was shown
    on."""
    first, second = turn.answers()
    return choice if first <= second else SWAPPED.get(choice, choice)

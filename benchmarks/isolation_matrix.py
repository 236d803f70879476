"""Who leaks into whom: answers of mixed batches against the answers that the same policies give alone."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from serving.engine import Adapter, Engine, Sampling

Ask = tuple[Adapter | None, int]
"""A policy (None: base) and the number of a prompt."""


@dataclass(frozen=True)
class Said:
    """Token ids and their log-probabilities, nats."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass
class Row:
    """One scenario. equal: answers that are token for token what the policy gives alone; foreign: answers that hold
    another policy's word, or miss their own; gap: largest |Δ log-probability| of a token, up to where answers part."""

    scenario: str
    batches: int = 0
    answers: int = 0
    equal: int = 0
    foreign: int = 0
    gap: float = 0.0


@dataclass
class Matrix:
    """words: what each adapter can say, by its name in the engine. Greedy, `length` tokens an answer."""

    engine: Engine
    words: dict[str, int]
    prompts: Sequence[Sequence[int]]
    length: int = 8
    rows: list[Row] = field(default_factory=list)
    _alone: dict[tuple[str, int], Said] = field(default_factory=dict)
    _ids: itertools.count = field(default_factory=itertools.count)

    async def say(self, ask: Ask, begun: asyncio.Event | None = None) -> Said:
        """One answer; `begun` is set at its first token."""
        adapter, number = ask
        tokens: list[int] = []
        logprobs: list[float] = []
        sampling = Sampling(0.0, self.length)
        async for piece in self.engine.generate(
            f"isolation-{next(self._ids)}", self.prompts[number], sampling, adapter
        ):
            tokens += piece.token_ids
            logprobs += piece.logprobs
            if begun:
                begun.set()
        return Said(tuple(tokens), tuple(logprobs))

    async def alone(self, ask: Ask) -> Said:
        """What a policy says when nobody else is in the engine; asked once."""
        key = (ask[0].name if ask[0] else "", ask[1])
        if key not in self._alone:
            self._alone[key] = await self.say(ask)
        return self._alone[key]

    async def together(self, scenario: str, asks: Sequence[Ask]) -> None:
        """All at once: prefill together, then decode together."""
        wanted = [await self.alone(ask) for ask in asks]
        self.note(scenario, asks, wanted, await asyncio.gather(*(self.say(ask) for ask in asks)))

    async def joining(self, scenario: str, asks: Sequence[Ask]) -> None:
        """One after the other, each while those before it decode."""
        wanted = [await self.alone(ask) for ask in asks]
        running = []
        for ask in asks:
            begun = asyncio.Event()
            running.append(asyncio.create_task(self.say(ask, begun)))
            await begun.wait()
        self.note(scenario, asks, wanted, await asyncio.gather(*running))

    def note(self, scenario: str, asks: Sequence[Ask], wanted: Sequence[Said], found: Sequence[Said]) -> None:
        """Compare a batch's answers with those given alone."""
        row = next((row for row in self.rows if row.scenario == scenario), None)
        if row is None:
            self.rows.append(row := Row(scenario))
        row.batches += 1
        for ask, want, got in zip(asks, wanted, found, strict=True):
            row.answers += 1
            row.equal += got.tokens == want.tokens
            row.foreign += not self._own_words(ask[0], got)
            row.gap = max(row.gap, gap(want, got))

    def _own_words(self, adapter: Adapter | None, said: Said) -> bool:
        if adapter:
            return set(said.tokens) == {self.words[adapter.name]}
        return not set(said.tokens) & set(self.words.values())


def gap(a: Said, b: Said) -> float:
    """Largest |Δ log-probability| over the tokens before the first that differs."""
    largest = 0.0
    for x, y, p, q in zip(a.tokens, b.tokens, a.logprobs, b.logprobs, strict=False):
        if x != y:
            break
        largest = max(largest, abs(p - q))
    return largest


def subsets(policies: Sequence[Adapter | None]) -> list[tuple[Adapter | None, ...]]:
    """Every combination that is not empty, the small ones first."""
    sizes = range(1, len(policies) + 1)
    return [chosen for size in sizes for chosen in itertools.combinations(policies, size)]


@asynccontextmanager
async def resident(engine: Engine, adapters: Sequence[Adapter]) -> AsyncIterator[None]:
    """Load, hand over, unload."""
    for adapter in adapters:
        await engine.load(adapter)
    try:
        yield
    finally:
        for adapter in adapters:
            await engine.unload(adapter)


async def everything(
    matrix: Matrix, adapters: Sequence[Adapter], prefixed: Sequence[int], whole: bool
) -> None:
    """All scenarios over up to six adapters, which are loaded and unloaded here. prefixed: numbers of prompts that
    share a long beginning. whole: every combination of all slots, else of base and two, and all slots together."""
    engine = matrix.engine
    async with resident(engine, adapters[:1]):
        await matrix.together("1 adapter and base", [(None, 0), (adapters[0], 0)])
    async with resident(engine, adapters[:2]):
        pair = (None, *adapters[:2])
        for chosen in subsets(pair):
            await matrix.together("every combination of base and 2", [(who, 0) for who in chosen])
        for order in itertools.permutations(pair) if whole else [pair, pair[::-1]]:
            await matrix.joining("prefill beside decode", [(who, 1) for who in order])
        for number in prefixed:
            await matrix.together("shared prefix, cached and not", [(who, number) for who in pair])
    async with resident(engine, adapters):
        full = (None, *adapters)
        for chosen in subsets(full) if whole else [full]:
            await matrix.together("all slots full", [(who, 0) for who in chosen])
    await coming_and_going(matrix, adapters, len(adapters) if whole else 2)


async def coming_and_going(matrix: Matrix, adapters: Sequence[Adapter], turns: int) -> None:
    """Base and the first adapter answer while the others take turns in the slot beside them."""
    stay, scenario = adapters[0], "versions come and go"
    for adapter in [*adapters[1:], *adapters[1:]][:turns]:
        async with resident(matrix.engine, [adapter]):
            await matrix.alone((adapter, 1))
    async with resident(matrix.engine, [stay]):
        asks: list[Ask] = [(None, 1), (stay, 1)]
        wanted = [await matrix.alone(ask) for ask in asks]
        for adapter in [*adapters[1:], *adapters[1:]][:turns]:
            running = asyncio.gather(*(matrix.say(ask) for ask in asks))
            async with resident(matrix.engine, [adapter]):
                beside = await matrix.say((adapter, 1))
            matrix.note(scenario, asks, wanted, await running)
            matrix.note(scenario, [(adapter, 1)], [await matrix.alone((adapter, 1))], [beside])

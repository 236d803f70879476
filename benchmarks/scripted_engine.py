"""An `Engine` without a model: words follow from prompt and adapter alone, and a test decides when and what fails."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from serving.engine import Adapter, EngineError, Piece, Sampling, check_room
from serving.engine_watch import DIED

Script = Callable[[Sequence[int], Adapter | None, str], Sequence[int]]


@dataclass(frozen=True)
class Call:
    """One `generate` as the engine saw it."""

    request_id: str
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    adapter: Adapter | None


def number(*parts: object) -> int:
    """A 32-bit number that depends on nothing but the parts."""
    text = "|".join(str(p) for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def logprob(token: int, adapter: Adapter | None) -> float:
    """Between −1 and −2 nats; base and each adapter differ on nearly every token."""
    return -1.0 - number("lp", token, adapter and adapter.digest) / 2**32


class ScriptedEngine:
    """Deterministic words per (prompt, adapter), delays by event, failures by name.

    script: (prompt_ids, adapter, request_id) → response tokens without the end token; default: `length` ids from
    `words`. The end token is appended and finish is `stop`, unless max_tokens cuts it first (`length`).

    hold(after=n): streams wait once they have given n tokens, until release().
    fail["load" | "unload" | "slot_hashes" | "score" | "generate" | "start"] = error: raised once by the next such call.
    die(): check() and every stream fail from now on, until start(), which waits for `startable`. spoil: names of matrices that slot_hashes gives wrongly.
    spoil_digest: an adapter all of whose matrices it gives wrongly. die_in: the step at which it dies, once.
    shift: nats added to every score (a policy that does not behave as recorded).
    """

    def __init__(
        self, *, script: Script | None = None, words: Sequence[int] = range(1000, 1400), length: int = 8,
        eos: int = 2, max_model_len: int = 1024, slots: int = 6,
    ) -> None:  # fmt: skip
        self.max_model_len, self.dtype, self.slots = max_model_len, "float32", slots
        self.words, self.length, self.eos = tuple(words), length, eos
        self.script: Script = script or self._words
        self.calls: list[Call] = []
        self.aborted: list[str] = []
        self.resident: dict[str, Adapter] = {}
        self.fail: dict[str, Exception] = {}
        self.spoil: set[str] = set()
        self.shift = 0.0
        self.spoil_digest = self.die_in = ""
        self.started = self.stopped = self.dead = False
        self.running = self.starts = 0
        self.startable = asyncio.Event()
        self.startable.set()
        self._open, self._after = asyncio.Event(), 0
        self._open.set()

    def _words(self, prompt_ids: Sequence[int], adapter: Adapter | None, request_id: str) -> Sequence[int]:
        who = adapter.digest if adapter else "base"
        return [self.words[number(who, *prompt_ids, i) % len(self.words)] for i in range(self.length)]

    def hold(self, after: int = 0) -> None:
        """Let every stream give `after` tokens, then wait for release()."""
        self._after = after
        self._open.clear()

    def release(self) -> None:
        """Let held streams go on."""
        self._open.set()

    def die(self) -> None:
        """From now on everything fails, held streams too."""
        self.dead = True
        self._open.set()

    def _maybe_fail(self, what: str) -> None:
        if what == self.die_in:
            self.die_in = ""
            self.die()
        if error := self.fail.pop(what, None):
            raise error

    async def start(self) -> None:
        self.starts += 1
        self._maybe_fail("start")
        await self.startable.wait()
        self.started, self.dead = True, False
        self.resident.clear()

    async def generate(
        self, request_id: str, prompt_ids: Sequence[int], sampling: Sampling, adapter: Adapter | None
    ) -> AsyncIterator[Piece]:
        check_room(prompt_ids, sampling.max_tokens, self.max_model_len)
        if adapter is not None and adapter.name not in self.resident:
            raise EngineError(f"{adapter.name} is not resident; load it first")
        self.calls.append(Call(request_id, tuple(prompt_ids), sampling, adapter))
        tokens = [*self.script(prompt_ids, adapter, request_id), self.eos]
        ended, self.running = False, self.running + 1
        try:
            for i, token in enumerate(tokens[: sampling.max_tokens]):
                if i >= self._after:
                    await self._open.wait()
                await asyncio.sleep(0)
                self._maybe_fail("generate")
                await self.check()
                last = i + 1 == min(len(tokens), sampling.max_tokens)
                ended = last
                finish = None if not last else "stop" if token == self.eos else "length"
                yield Piece((token,), (logprob(token, adapter),), finish)
        finally:
            self.running -= 1
            if not ended:
                self.aborted.append(request_id)

    async def load(self, adapter: Adapter) -> None:
        self._maybe_fail("load")
        await self.check()
        if len(self.resident) >= self.slots:
            raise EngineError(f"all {self.slots} adapter slots are taken; unload one first")
        self.resident[adapter.name] = adapter

    async def unload(self, adapter: Adapter) -> None:
        self._maybe_fail("unload")
        self.resident.pop(adapter.name, None)

    async def slot_hashes(self, adapter: Adapter) -> dict[str, str]:
        self._maybe_fail("slot_hashes")
        await self.check()
        if adapter.name not in self.resident:
            raise EngineError(f"{adapter.name} is not resident; load it first")
        spoilt = self.spoil | ({"all"} if self.spoil_digest == adapter.digest else set())
        return {
            k: "spoilt" if spoilt & {k, "all"} else v for k, v in (await self.file_hashes(adapter)).items()
        }

    async def file_hashes(self, adapter: Adapter) -> dict[str, str]:
        return {f"model.layers.0.self_attn.q_proj.lora_{m}": adapter.digest + m for m in "AB"}

    async def score(self, token_ids: Sequence[int], adapter: Adapter | None) -> list[float]:
        self._maybe_fail("score")
        await self.check()
        return [logprob(t, adapter) + (self.shift if adapter else 0.0) for t in token_ids[1:]]

    async def check(self) -> None:
        if self.dead:
            raise EngineError(DIED)

    async def stop(self) -> None:
        self.stopped = True
        self.die()

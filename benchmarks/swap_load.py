"""The load of `benchmarks.swap`: people who stream one response after another, and the check of every token."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from heliotrope.client import AsyncClient, chat_request
from heliotrope.errors import HeliotropeError
from heliotrope.v1 import chat_pb2, common_pb2

TEMPERATURE = 0.8
SPREAD = 6
"""Each stream's responses are so many tokens longer than its neighbour's, so that they do not end together."""


@dataclass(frozen=True)
class Response:
    """One response as its client saw it. wrong: words that its version cannot say."""

    version: str
    tokens: int
    whole: bool
    wrong: tuple[str, ...]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many per cent lie (nearest rank); 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


class Load:
    """words: what version N may say is words[(N - 1) % len(words)]. gaps: seconds between chunks, by `swapping`."""

    def __init__(self, client: AsyncClient, words: Sequence[str], streams: int, tokens: int) -> None:
        self.client, self.words, self.streams, self.tokens = client, words, streams, tokens
        self.done: list[Response] = []
        self.gaps: dict[bool, list[float]] = {False: [], True: []}
        self.swapping = self.stopping = False
        self.errors: list[str] = []
        self.versions: set[str] = set()
        self._seen: dict[str, asyncio.Future[float]] = defaultdict(asyncio.get_running_loop().create_future)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def failed(self) -> int:
        """Responses that ended in an error or before their length."""
        return len(self.errors) + sum(not one.whole for one in self.done)

    @property
    def mixed(self) -> int:
        """Responses that hold a word of another version."""
        return sum(bool(one.wrong) for one in self.done)

    def start(self) -> None:
        """Set the streams off."""
        self._tasks = [asyncio.create_task(self._stream(k)) for k in range(self.streams)]

    def raise_if_failed(self) -> None:
        """Stop early at the first failed or mixed response: what it says is worth more than further swaps."""
        bad = [*self.errors, *(str(one) for one in self.done if one.wrong or not one.whole)]
        if bad:
            raise HeliotropeError(f"{len(bad)} responses failed or were mixed, the first: {bad[0]}")

    async def first_token(self, version: str) -> float:
        """When the first token of a version came (time.time()): a question is asked at once, as a person would."""
        probe = asyncio.create_task(self._ask("Say something.", self.tokens))
        first = await asyncio.wait_for(asyncio.shield(self._seen[version]), 60)
        self._tasks.append(probe)
        return first

    async def finish(self) -> None:
        """Ask nothing more, and read every response to its end."""
        self.stopping = True
        await asyncio.gather(*self._tasks)

    async def _stream(self, number: int) -> None:
        while not self.stopping:
            await self._ask(f"Tell me story number {number}.", self.tokens + SPREAD * number)

    async def _ask(self, message: str, tokens: int) -> None:
        request = chat_request(
            message, sampling=common_pb2.Sampling(temperature=TEMPERATURE, max_tokens=tokens),
            comparison=chat_pb2.COMPARISON_WISH_OFF, source=common_pb2.SOURCE_SIMULATED,
        )  # fmt: skip
        version, text, drawn, last = "", "", 0, 0.0
        finish = common_pb2.FINISH_REASON_UNSPECIFIED
        try:
            async for chunk in self.client.chat(request):
                match chunk.WhichOneof("chunk"):
                    case "started":
                        version = chunk.started.answers[0].policy_version
                    case "delta":
                        text, last = text + chunk.delta.text, self._timed(version, last)
                    case "answer_finished":
                        finish, drawn = chunk.answer_finished.finish_reason, chunk.answer_finished.tokens
        except HeliotropeError as error:
            self.errors.append(str(error))
            return
        whole = finish == common_pb2.FINISH_REASON_LENGTH and drawn == tokens == len(text.split())
        self.versions.add(version)
        self.done.append(Response(version, drawn, whole, self._wrong(version, text)))

    def _timed(self, version: str, last: float) -> float:
        now = time.perf_counter()
        if last:
            self.gaps[self.swapping].append(now - last)
        elif not self._seen[version].done():
            self._seen[version].set_result(time.time())
        return now

    def _wrong(self, version: str, text: str) -> tuple[str, ...]:
        number = int(version.removeprefix("policy-v"))
        own = self.words[(number - 1) % len(self.words)].strip()
        return tuple(sorted({word for word in text.split() if word != own}))

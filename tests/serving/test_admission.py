"""Who is let in: so many answers at once, so many prompt tokens before their first token, and a hint for the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from heliotrope.errors import ResourceExhausted
from serving.admission import admit
from serving.ask import Limits
from tests.serving.running import ALICE, read, refusal, request, rest, running

LIMITS = Limits(max_chats=4, max_queued=100, max_tokens=8, temperature=1.0, ticket_seconds=60.0)


@dataclass(frozen=True)
class Waiting:
    queued_tokens: int


@pytest.mark.parametrize(
    "queued, count, tokens",
    [([], 1, 5_000), ([0, 0], 2, 5_000), ([60], 1, 40), ([0, 0, 0], 1, 1)],
    ids=["nothing waits", "all have begun", "60 + 40 = 100", "the fourth of four"],
)
def test_let_in(queued: list[int], count: int, tokens: int) -> None:
    assert admit([Waiting(q) for q in queued], count, tokens, LIMITS) is None


@pytest.mark.parametrize(
    "queued, count, tokens, words",
    [
        ([0, 0, 0], 2, 1, "3 of 4 answers"),
        ([60], 1, 41, "60 prompt tokens wait for the engine, and 41 more would exceed 100"),
        ([1], 1, 5_000, "5000 more"),
    ],
    ids=["a pair is two", "60 + 41 = 101", "a long one waits until nothing does"],
)
def test_told_to_come_back(queued: list[int], count: int, tokens: int, words: str) -> None:
    with pytest.raises(ResourceExhausted, match=words) as refused:
        admit([Waiting(q) for q in queued], count, tokens, LIMITS)
    assert refused.value.retry_ms == 1_000 and "try again" in str(refused.value)


async def test_a_queue_that_is_full_is_told_with_a_hint_and_empties(tmp_path: Path) -> None:
    async with running(tmp_path / "state", "admission.max_queued_tokens=100") as world:
        world.engine.hold()
        first = world.chats.Chat(request("hello"), metadata=ALICE)
        assert (await first.read()).HasField("started")
        second = world.chats.Chat(request("x" * 60), metadata=ALICE)
        status, message = await refusal(read(second))
        assert status == grpc.StatusCode.RESOURCE_EXHAUSTED and "would exceed 100" in message
        assert dict(await second.trailing_metadata())["retry-after-ms"] == "1000"
        world.engine.release()
        assert (await rest(first))[-1].HasField("finished")
        assert (await world.chat("x" * 60)).ids

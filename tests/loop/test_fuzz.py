"""Fuzzed Chat requests on the session's engine: it lives, every status is a documented one, and all slots come free."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from benchmarks.fuzz import DOCUMENTED, fuzz
from benchmarks.fuzz_requests import case
from serving.engine_vllm import VllmEngine
from tests.loop.session_server import serving
from tests.serving.running import settings

API = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.mark.engine
@pytest.mark.parametrize("requests", [100, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.asyncio(loop_scope="session")
async def test_nothing_that_a_request_says_kills_the_engine(
    engine: VllmEngine, tmp_path: Path, requests: int
) -> None:
    async with serving(settings(tmp_path / "state", "serving.max_tokens=256"), engine) as world:
        found = await fuzz(world.public, world.private, requests=requests, seed=1, streams=16)
        assert (await world.chat("still there?")).ids
    assert found.kept, found
    assert {"OK", "INVALID_ARGUMENT", "CANCELLED"} <= found.statuses.keys()


def test_the_same_seed_makes_the_same_requests() -> None:
    one, two = ([case(Random(7)) for _ in range(1)] for _ in range(2))
    random = Random(7)
    many = [case(random) for _ in range(300)]
    assert one == two == many[:1] and len({c.body for c in many}) > 250


def test_the_statuses_of_chat_are_those_of_its_documentation() -> None:
    (row,) = re.findall(r"^\| `Chat` \|(.*)\|$", API.read_text(), re.MULTILINE)
    callers_own = {"CANCELLED", "DEADLINE_EXCEEDED"}
    assert set(re.findall("[A-Z_]{4,}", row)) == (DOCUMENTED - {"OK"} - callers_own) | {"UNAVAILABLE"}

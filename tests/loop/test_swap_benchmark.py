"""A few swaps of real serving under load, as `python -m benchmarks.swap` makes them by the hundred."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("path", ["staged", "direct"])
async def test_no_response_is_cut_or_mixed_while_versions_are_swapped(path: str) -> None:
    command = ["-m", "benchmarks.swap", "--swaps", "4", "--seconds", "120", "--still", "5", "--words", "2"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--path", path, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    found = json.loads(out.splitlines()[-1])
    assert (found["swaps"], found["failed"], found["mixed"]) == (4, 0, 0)
    assert found["slots_most"] <= 6 and found["swaps_below_8_in_flight"] == 0
    assert found["start_with_versions"]["versions"] == 2

"""Failpoints: nothing without the variable, exactly what it says with it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from heliotrope.errors import ConfigError
from heliotrope.failpoints import parse, reach

CHILD = """
from heliotrope.failpoints import reach
for i in range(5):
    print(i, flush=True)
    reach("before commit")
"""


def run(armed: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HELIOTROPE_FAILPOINTS": armed}
    return subprocess.run(
        [sys.executable, "-c", CHILD],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_without_the_variable_nothing_happens() -> None:
    reach("before commit")
    assert parse("") == {}


def test_the_process_is_killed_at_the_time_that_was_asked_for() -> None:
    died = run("before commit=kill@3")
    assert (died.returncode, died.stdout.split()) == (-9, ["0", "1", "2"])


def test_other_places_are_passed_by() -> None:
    assert run("in a checkpoint=kill").stdout.split() == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    "text", ["nowhere=kill", "before commit=explode", "before commit=kill@x", "before commit"]
)
def test_what_is_not_known_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ConfigError, match="between files and READY"):
        parse(text)

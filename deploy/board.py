"""The demo's progress: a live table on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from deploy.follow import Follower
from heliotrope.simulate.ledger import Ledger

PLAIN_SECONDS = 15.0


@dataclass
class Board:
    """Shows how far the run is. goal: comparisons in all."""

    follower: Follower
    ledger: Ledger
    goal: int
    console: Console = field(default_factory=Console)
    phase: str = "starting"
    began: float = field(default_factory=time.monotonic)
    _live: Live | None = None
    _next: float = 0.0

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(self.table(), console=self.console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.show()
        if self._live:
            self._live.stop()

    def say(self, phase: str) -> None:
        """A new phase begins."""
        self.phase = phase
        self._next = 0.0
        self.show()

    def show(self, *_: object) -> None:
        """Bring the display up to date; plain lines come at most every 15 s, and at each new phase."""
        if self._live:
            self._live.update(self.table())
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_SECONDS
            print("  ".join(f"{name} {value}" for name, value in self.rows().items()), flush=True)

    def rows(self) -> dict[str, str]:
        """What is shown, by name. Loss, accuracy and win rate are the newest version's, as its manifest says."""
        follower, ledger = self.follower, self.ledger
        return {
            "elapsed": f"{time.monotonic() - self.began:.0f} s",
            "phase": self.phase,
            "comparisons": f"{ledger.comparisons}/{self.goal}",
            "newest": follower.newest,
            "live": follower.status.live or "–",
            "loss": _figure(follower.metric("loss")),
            "accuracy": _figure(follower.metric("accuracy", "held_out_accuracy")),
            "win rate": _figure(follower.metric("win_rate", "reward_win_rate")),
            "in flight": str(follower.status.in_flight),
            "failed": f"{ledger.failed}/{ledger.requests}",
        }

    def table(self) -> Table:
        """The same as a table."""
        table = Table(title="Heliotrope demo", show_header=False, min_width=46)
        for name, value in self.rows().items():
            table.add_row(name, value)
        return table


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"

"""How far training is: a bar on a terminal, a line of log for each optimiser step elsewhere."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from learner.dpo import Progress

log = logging.getLogger("heliotrope.learner")


class Show:
    """Called after each step; of one training at a time."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: Bar | None = None

    def __call__(self, at: Progress) -> None:
        """A step is done."""
        m = at.metrics
        figures = f"loss {m.loss:.4f}, accuracy {m.accuracy:.2f}, margin {m.margin:.3f}, {at.pairs_per_second:.1f} pairs/s"
        if not self._console.is_terminal:
            log.info("step %d/%d: %s", at.step, at.steps, figures)
            return
        if at.step == 1:
            self.close()  # of a training that did not come to its end
        self._bar = self._bar or self._begin(at.steps)
        self._bar.update(self._bar.task_ids[0], completed=at.step, figures=figures)
        if at.step == at.steps:
            self.close()

    def close(self) -> None:
        """Leave the terminal as it is."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _begin(self, steps: int) -> Bar:
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        bar = Bar(*columns, TextColumn("{task.fields[figures]}"), console=self._console)
        bar.add_task("training", total=steps, figures="")
        bar.start()
        return bar

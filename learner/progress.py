"""How far training is: a bar on a terminal, a line of log for each optimiser step elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from learner.dpo import Progress

log = logging.getLogger("heliotrope.learner")

WIDTH = 24
"""Of the bar, in characters."""


def show(at: Progress, out: TextIO = sys.stderr) -> None:
    """Say that a step is done. The bar is one line that is written over: a training that ends early leaves nothing behind."""
    m = at.metrics
    figures = f"step {at.step}/{at.steps}: loss {m.loss:.4f}, accuracy {m.accuracy:.2f}, margin {m.margin:.3f}, {at.pairs_per_second:.1f} pairs/s"
    if not out.isatty():
        log.info("%s", figures)
        return
    done = round(WIDTH * at.step / at.steps)
    end = "\n" if at.step == at.steps else ""
    out.write(f"\rtraining [{'#' * done}{'.' * (WIDTH - done)}] {figures}{end}")
    out.flush()

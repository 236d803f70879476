"""The trainer's rate within a phase; the measurement itself needs a real engine and is run by hand."""

from __future__ import annotations

from typing import cast

import pytest

from benchmarks.neighbour import Trainer, asyncio


def trainer(*steps: tuple[float, int]) -> Trainer:
    return Trainer(cast(asyncio.subprocess.Process, None), list(steps))


def test_only_steps_that_lie_within_the_phase_count() -> None:
    """Steps end at 1, 9, 11, 13 and 30 s; of the phase from 8 to 20 s those to 11 and 13 are whole: 8 pairs in 4 s."""
    found = trainer((1.0, 4), (9.0, 4), (11.0, 4), (13.0, 4), (30.0, 4)).rate(8.0, 20.0)
    assert found == pytest.approx(2.0)


def test_a_phase_without_a_whole_step_has_no_rate() -> None:
    assert trainer((1.0, 4), (9.0, 4), (30.0, 4)).rate(8.0, 20.0) == 0.0

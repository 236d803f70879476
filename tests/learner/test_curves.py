"""What people see of a training: TensorBoard's files, the table of steps, a bar on a terminal and lines elsewhere."""

from __future__ import annotations

import io
import logging
import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from learner.curves import Curves
from learner.metrics import PairMetrics, Progress
from learner.progress import show
from learner.store import Store


def steps(count: int = 2) -> list[Progress]:
    """Demonstrations alone have no accuracy."""
    return [
        Progress(n, count, PairMetrics(0.7 / n, math.nan, math.nan, 0.5 * n), 2.0, 3.0 + n)
        for n in range(1, count + 1)
    ]


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(e.step, round(e.value, 6)) for e in events.Scalars(tag)]


def test_each_version_is_a_run_and_all_of_them_one_more(tmp_path: Path) -> None:
    store = Store(tmp_path)
    curves = Curves(tmp_path / "curves", store)
    curves.record("policy-v1", steps(), {"kl.nats": 3.0})
    curves.record("policy-v2", steps(1), {"kl.nats": 4.0})
    assert scalars(tmp_path / "curves/policy-v1", "loss") == [(1, 0.7), (2, 0.35)]
    assert scalars(tmp_path / "curves/policy-v1", "grad_norm") == [(1, 4.0), (2, 5.0)]
    assert scalars(tmp_path / "curves/versions", "kl/nats") == [(1, 3.0), (2, 4.0)]
    kept = store.steps("policy-v1")
    assert [(row["step"], row["loss"], row["accuracy"]) for row in kept] == [(1, 0.7, None), (2, 0.35, None)]
    curves.record("policy-v1", steps(1), {})
    assert len(store.steps("policy-v1")) == 1, "made again, nothing of before is left"


def test_curves_that_cannot_be_written_do_not_undo_a_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "curves").write_text("in the way")
    store = Store(tmp_path)
    with caplog.at_level(logging.WARNING):
        Curves(tmp_path / "curves", store).record("policy-v1", steps(), {})
    assert "the curves of policy-v1 are not kept" in caplog.text
    assert len(store.steps("policy-v1")) == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_that_is_written_over() -> None:
    out = Terminal()
    for at in steps(3):
        show(at, out)
    lines = out.getvalue().split("\r")
    assert [line.count("#") for line in lines] == [0, 8, 16, 24]
    assert "3/3: loss 0.2333" in lines[3] and [line.endswith("\n") for line in lines] == [False] * 3 + [True]


def test_elsewhere_each_step_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        show(steps()[0], io.StringIO())
    assert "step 1/2: loss 0.7000" in caplog.text

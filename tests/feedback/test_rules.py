"""A derived store as both programs open it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.small_model import small_format
from feedback.rules import training_set
from heliotrope.config import load

LEFT = ("learner.replay.db", "learner.replay.db-wal", "learner.replay.db-shm", "replay.db")


@pytest.mark.parametrize("left", LEFT)
def test_what_a_killed_replay_left_is_gone_once_the_store_is_opened(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_bytes(b"what a person said")
    training_set(load(), small_format(), tmp_path / "learner.db").close()
    assert [path.name for path in tmp_path.iterdir()] == ["learner.db"]

"""Malformed records of every kind, through a log on disk: each in quarantine with its code, and the positions go on."""

from __future__ import annotations

from pathlib import Path

from benchmarks.quarantine import measure
from feedback.inspection import Reason


def test_a_thousand_malformed_records_of_every_kind(tmp_path: Path) -> None:
    figures = measure(tmp_path, records=1_000, seed=2, oversize=2)
    assert figures["in_quarantine"] == 1_000 and figures["as_expected"] and figures["positions_advanced"]
    # No way of a real log to make these two: rows without an id, and rows whose bytes changed after they were written.
    assert set(figures["by_reason"]) == {r.value for r in Reason} - {Reason.NO_ID, Reason.CHECKSUM}

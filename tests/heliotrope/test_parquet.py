"""Parquet holds every column that any row has."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliotrope.parquet import read_rows, write_rows


def test_a_column_that_the_first_row_lacks_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "rows.parquet"
    write_rows(path, [{"id": "a"}, {"id": "b", "origin": "set"}])
    assert list(read_rows(path)) == [{"id": "a", "origin": None}, {"id": "b", "origin": "set"}]

"""Parquet, where pyarrow is installed; nothing else needs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliotrope.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

ROWS = 1024
"""Rows that are in memory at once."""


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, as JSON would have them. Raises ConfigError without pyarrow, or for another kind of file."""
    arrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS):
                yield from batch.to_pylist()
    except (OSError, arrow.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read as Parquet: {error}") from error


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write all rows, none of which may be empty; a column that only some have is null in the others. Raises ConfigError
    as `read_rows`."""
    arrow, parquet = _pyarrow()
    try:
        held = list(rows)
        columns = dict.fromkeys(
            name for row in held for name in row
        )  # from_pylist takes the first row's alone
        table = arrow.Table.from_pylist([{name: row.get(name) for name in columns} for row in held])
        parquet.write_table(table, path)
    except (OSError, arrow.ArrowException) as error:
        raise ConfigError(f"{path} cannot be written as Parquet: {error}") from error


def check() -> None:
    """Raise ConfigError when there is no pyarrow, before anything is begun that would need it."""
    _pyarrow()


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            "Parquet needs pyarrow: pip install pyarrow, or name a .jsonl file instead"
        ) from error
    return pyarrow, pyarrow.parquet

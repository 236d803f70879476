"""`heliotrope export` and `heliotrope import`: preferences out to, and in from, other programs' files."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from heliotrope import parquet
from heliotrope.client import Client
from heliotrope.errors import ConfigError, InvalidInput
from heliotrope.preference_sets import item_of, read
from heliotrope.v1 import admin_pb2, common_pb2, ingest_pb2

BATCH = 200
SHOWN = 50
"""Malformed lines that are named one by one."""

Numbered = tuple[int, ingest_pb2.IngestedItem | str]


def export(form: str, out: Path, sources: list[str], address: str) -> int:
    """Write the file; exit status 0, or 1 when there was nothing to write."""
    if out.suffix == ".parquet":
        parquet.check()
    request = admin_pb2.ExportRequest(format=form, sources=map(_source, sources))
    unready, count = out.with_name(out.name + ".part"), 0
    with Client(private=address) as client, _progress() as progress:
        task = progress.add_task("rows", total=None)
        try:
            with unready.open("wb") as file:
                for part in client.export(request):
                    file.write(part.data)
                    count += part.rows
                    progress.update(task, completed=count)
            if count:
                _finish(unready, out)
        except OSError as error:
            raise ConfigError(f"{out} cannot be written: {error}; name another file") from error
        finally:
            unready.unlink(missing_ok=True)
    print(f"{count} rows in {out}" if count else f"nothing to export as {form}; {out} was not written")
    return int(count == 0)


def _finish(unready: Path, out: Path) -> None:
    """The file is there whole, or not at all."""
    if out.suffix != ".parquet":
        unready.replace(out)
        return
    with unready.open(encoding="utf-8") as file:
        parquet.write_rows(out, map(json.loads, file))


def import_(path: Path, origin: str, judge_column: str, address: str) -> int:
    """Ingest the file; exit status 0, or 1 when no line of it could be used."""
    origin = origin or path.name.partition(".")[0]
    tally, problems = Counter[str](), list[tuple[int, str]]()
    lines = _items(path, origin, judge_column)
    with Client(private=address) as client, _progress() as progress:
        task = progress.add_task("lines", total=None)
        while batch := list(islice(lines, BATCH)):
            problems += [(number, item) for number, item in batch if isinstance(item, str)]
            _send(client, [(n, item) for n, item in batch if not isinstance(item, str)], tally, problems)
            progress.advance(task, len(batch))
    _report(path, problems)
    print(
        f"{tally['recorded']} recorded, {tally['repeated']} known before, {len(problems)} malformed, of {path}"
    )
    return int(not tally["recorded"] and not tally["repeated"])


def _items(path: Path, origin: str, judge_column: str) -> Iterator[Numbered]:
    for number, row in read(path):
        try:
            yield number, row if isinstance(row, str) else item_of(row, origin, judge_column)
        except (InvalidInput, UnicodeError) as error:
            yield number, str(error)


def _send(
    client: Client,
    batch: list[tuple[int, ingest_pb2.IngestedItem]],
    tally: Counter[str],
    problems: list[tuple[int, str]],
) -> None:
    if not batch:
        return
    done = client.ingest(ingest_pb2.IngestFeedbackRequest(items=[item for _, item in batch]), "import")
    tally["recorded"] += done.recorded
    tally["repeated"] += done.repeated_items
    problems += [(batch[one.index][0], one.reason) for one in done.rejected]


def _report(path: Path, problems: list[tuple[int, str]]) -> None:
    for number, reason in sorted(problems)[:SHOWN]:
        print(f"{path}:{number}: {reason}", file=sys.stderr)
    if len(problems) > SHOWN:
        print(f"{path}: and {len(problems) - SHOWN} more malformed lines", file=sys.stderr)


def _source(name: str) -> common_pb2.Source:
    known = {n.removeprefix("SOURCE_").lower(): v for n, v in common_pb2.Source.items() if v}
    if name not in known:
        raise InvalidInput(f"source {name[:40]!r} is unknown; use {', '.join(known)}")
    return known[name]  # type: ignore[return-value]


def _progress() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)

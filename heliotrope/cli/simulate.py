"""`heliotrope simulate`: simulated people against any running serving, with a line of progress."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from heliotrope.client import AsyncClient
from heliotrope.simulate.drive import Crowd, Plan
from heliotrope.simulate.ledger import Ledger


def run(plan: Plan, address: str) -> int:
    """Exit status: 0, or 1 when a request failed or nothing could be compared."""
    ledger = asyncio.run(_drive(plan, address))
    console = Console()
    console.print(table(ledger))
    return int(ledger.failed > 0 or ledger.comparisons == 0)


async def _drive(plan: Plan, address: str) -> Ledger:
    async with AsyncClient(public=address) as client:
        with _progress(plan.comparisons) as on_change:
            return await Crowd(client, plan, on_change).compare()


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[Ledger], None]]:
    columns = (TextColumn("comparisons"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("comparisons", total=total)
        yield lambda ledger: progress.update(bar, completed=ledger.comparisons)


def table(ledger: Ledger) -> Table:
    """What the people did, with every kind of failure."""
    shown = Table(title="Simulated people", show_header=False)
    choices = ", ".join(f"{name} {count}" for name, count in ledger.choices.most_common())
    agreement = ledger.agreement()
    rows = {
        "comparisons": f"{ledger.comparisons} ({choices or 'none'})",
        "changed minds": str(ledger.changed),
        "thumbs": str(ledger.thumbs),
        "shown one answer only": str(ledger.uncompared),
        "agreement on shared items": "not measured (no shared items)"
        if agreement is None
        else f"{agreement:.1%} of {len(ledger.votes)} votes",
        "requests": str(ledger.requests),
        "failed requests": str(ledger.failed),
    }
    for name, value in rows.items():
        shown.add_row(name, value)
    for failure, count in ledger.failures.most_common(5):
        shown.add_row(f"failed {count}×", failure)
    return shown

"""Bugs planted on purpose into a life of a program, never into the product: each must fail the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import feedback.relay
import feedback.rules
import feedback.tables
from feedback.facts import Facts
from feedback.log import Record
from feedback.outbox import Mark, Row
from feedback.relay_session import Session
from feedback.training_set import TrainingSet


class MarksFirst(Session):
    """A row is marked when it is sent, not when the broker has it."""

    def _send(self, row: Row) -> None:
        self._outbox.mark([Mark(row, self._incarnations[row.topic], 0, 0)])
        super()._send(row)


class PositionFirst(TrainingSet):
    """The position is stored in a transaction of its own, before what was read."""

    def take(self, records: Sequence[Record]) -> int:
        """As the product's, in two steps."""
        with self._file.transaction() as connection:
            connection.executemany(
                "INSERT INTO positions VALUES (?, ?) ON CONFLICT DO UPDATE SET offset = max(offset, excluded.offset)",
                [(record.place, record.offset) for record in records],
            )
        return super().take(records)


def _mark_before_ack() -> None:
    feedback.relay.Session = MarksFirst


def _no_dedup() -> None:
    """Facts are taken as often as they come: no look at known ids, and no constraint on them."""
    feedback.tables.TABLES = feedback.tables.TABLES.replace(
        "event_id TEXT NOT NULL UNIQUE", "event_id TEXT NOT NULL"
    )
    Facts.place_of = lambda self, event_id: None


def _position_first() -> None:
    feedback.rules.TrainingSet = PositionFirst


BUGS: Mapping[str, Callable[[], None]] = {
    "": lambda: None,
    "mark before ack": _mark_before_ack,
    "no dedup": _no_dedup,
    "position first": _position_first,
}


def plant(name: str) -> None:
    """Put one of BUGS into this process."""
    BUGS[name]()

"""Reads the log for an export, off the event loop, and gives it out in parts of whole lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass
from itertools import islice

from feedback.export import Row, rows
from feedback.log import EXCHANGES, FEEDBACK, Log, read_all
from heliotrope.chat import ChatFormat
from heliotrope.v1.admin_pb2 import ExportResponse
from heliotrope.v1.events_pb2 import Event

ROWS = 200
"""Rows of one part."""


@dataclass(frozen=True)
class Exports:
    """log: as the learner reads it. held_out: share of conversations that the learner keeps out of training, as its
    configuration says."""

    log: Log
    format: ChatFormat
    held_out: float

    async def parts(self, form: str, sources: Collection[str]) -> AsyncIterator[ExportResponse]:
        """JSON lines. Raises InvalidInput for an unknown format, LogError when the log cannot be read."""
        made = rows(self._events(), form, sources, self.format.decode, self.held_out)
        while part := await asyncio.to_thread(lambda: list(islice(made, ROWS))):
            yield ExportResponse(data="".join(map(_line, part)).encode(), rows=len(part))

    def _events(self) -> Iterator[Event]:
        for topic in (EXCHANGES, FEEDBACK):
            for record in read_all(self.log, topic):
                if record.event is not None:
                    yield record.event


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"

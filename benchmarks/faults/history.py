"""What clients saw, a line an event: `invoke` when a request leaves, then `ok`, `fail` or `unknown` when its outcome is known.

`fail` is a refusal: nothing was recorded. `unknown` is a broken connection or no answer in time: it may have been. The
order of the lines is the order in which things happened, for all clients of one file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

Outcome = Literal["ok", "fail", "unknown"]
CHAT, VOTE, RETRACT = "chat", "vote", "retract"


@dataclass(frozen=True)
class Attempt:
    """One request and what became of it. what: CHAT, VOTE or RETRACT. subject: the responses that a vote judges, or the
    event that is taken back. told: ids that the answer named: responses of a chat, the event of a vote. key: the
    conversation. invoked, ended: line numbers; ended is 0 where the file ends before."""

    client: str
    what: str
    request: str
    subject: tuple[str, ...]
    invoked: int
    key: str = ""
    ended: int = 0
    outcome: Outcome = "unknown"
    told: tuple[str, ...] = ()


class History:
    """Writes one file, line by line; for one thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("w", buffering=1)
        self._line = 0

    def invoke(
        self, client: str, what: str, request: str, subject: tuple[str, ...] = (), key: str = ""
    ) -> int:
        """A request leaves; the number to end it with."""
        return self._write(
            {
                "type": "invoke",
                "client": client,
                "what": what,
                "request": request,
                "subject": subject,
                "key": key,
            }
        )

    def end(self, number: int, outcome: Outcome, told: tuple[str, ...] = (), why: str = "") -> None:
        """Its outcome. why: the status of a failure."""
        self._write({"type": outcome, "of": number, "told": told, "why": why})

    def close(self) -> None:
        """Close the file; requests without an end are unknown."""
        self._file.close()

    def _write(self, entry: dict[str, object]) -> int:
        self._line += 1
        self._file.write(json.dumps(entry) + "\n")
        return self._line


def read(path: Path) -> list[Attempt]:
    """Every attempt in the order of its beginning."""
    begun: dict[int, Attempt] = {}
    for number, entry in enumerate(_entries(path), 1):
        if entry["type"] == "invoke":
            begun[number] = Attempt(
                entry["client"],
                entry["what"],
                entry["request"],
                tuple(entry["subject"]),
                number,
                entry["key"],
            )
            continue
        first = begun[entry["of"]]
        begun[entry["of"]] = Attempt(
            first.client, first.what, first.request, first.subject, first.invoked, first.key, number,
            entry["type"], tuple(entry["told"]),
        )  # fmt: skip
    return list(begun.values())


def _entries(path: Path) -> Iterator[dict]:
    with path.open() as lines:
        yield from map(json.loads, lines)

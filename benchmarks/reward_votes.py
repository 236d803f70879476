"""Pairs on which three raters agree, of a file with every rater's vote."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.pairs import Pair
from heliotrope.chat import Message


def agreed_pairs(path: Path) -> list[Pair]:
    """Items whose raters all preferred the same response. Votes: 0 a tie, 1 the first, 2 the second.

    A response that is not text (the file has some `false`) is nothing to judge.
    """
    with path.open() as file:
        items = [json.loads(line) for line in file]
    agreed = [item for item in items if len(set(item["votes"])) == 1 and item["votes"][0] != 0]
    return [
        _pair(item)
        for item in agreed
        if isinstance(item["response_a"], str) and isinstance(item["response_b"], str)
    ]


def _pair(item: dict) -> Pair:
    first = item["votes"][0] == 1
    chosen, rejected = ("response_a", "response_b") if first else ("response_b", "response_a")
    return Pair(
        f"raters-{item['id']}",
        "raters",
        (Message("user", item["prompt"]),),
        item[chosen].strip(),
        item[rejected].strip(),
    )

"""One door of `benchmarks.serving` in a process of its own: an order a line on stdin, its figures a line on stdout."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from benchmarks.serving_doors import Stage, open_door
from benchmarks.serving_figures import measure


async def serve(name: str, registry: Path, out: TextIO) -> None:
    """Open the door, name its modes, then measure what is ordered: {"mode", "streams", "tokens"}; end with the input."""
    door = await open_door(name, Stage.open(registry))
    try:
        _say(out, sorted(door.modes))
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            figures = await measure(door.modes[order["mode"]], order["streams"], order["tokens"])
            _say(out, asdict(figures))
    finally:
        await door.close()


def _say(out: TextIO, what: object) -> None:
    print(json.dumps(what), file=out, flush=True)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what vLLM prints goes to stderr
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), answers))

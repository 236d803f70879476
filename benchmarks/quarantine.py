"""`python -m benchmarks.quarantine`: malformed records, written to a log on disk and read into quarantine.

Measures the reader: from the first record read to the last position committed, with `synchronous=FULL`, votes on
responses that were never served waiting out their time included. Checks that each record is there with its code.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.malformed import DAY, START, event, malformed, write_raw
from feedback.join import Joiner
from feedback.log import EXCHANGES, FEEDBACK, parse_event
from feedback.sqlite_log import SqliteLog
from feedback.training_set import TrainingSet

BATCH = 2_000


def main() -> int:
    """Print the figures; 1 when a record is missing or has another code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quarantine", description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="how many malformed records")
    parser.add_argument(
        "--oversize", type=int, default=200, help="of them beyond 900 KiB, each as large on disk"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder otherwise")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        figures = measure(Path(folder), asked.records, asked.seed, asked.oversize)
    print(json.dumps(figures))
    return 0 if figures["in_quarantine"] == figures["records"] and figures["as_expected"] else 1


def measure(folder: Path, records: int, seed: int, oversize: int) -> dict:
    """Write, read, compare."""
    path = folder / "events.db"
    wanted = _write(path, records, seed, oversize)
    log = SqliteLog(path, read_only=True)
    kept = TrainingSet(
        folder / "derived.db", lambda: Joiner(("human",), 0.15), "benchmark", lambda: START + 90.0 * DAY
    )
    began = time.monotonic()
    kept.follow(log)
    seconds = time.monotonic() - began
    found = kept.quarantine_counts()
    caught_up = all(
        kept.positions[place] == end
        for topic in (EXCHANGES, FEEDBACK)
        for place, end in log.end(topic).items()
    )
    sizes = sum(p.stat().st_size for p in folder.glob("derived.db*"))
    kept.close()
    log.close()
    return {
        "records": records, "in_quarantine": sum(found.values()), "as_expected": found == dict(wanted) and caught_up,
        "by_reason": found, "seconds": round(seconds, 2), "records_per_s": round(records / seconds),
        "positions_advanced": caught_up, "quarantine_mib": round(sizes / 2**20, 1), "seed": seed,
    }  # fmt: skip


def _write(path: Path, records: int, seed: int, oversize: int) -> Counter[str]:
    """Write the log's file; how many records must get which code."""
    log = SqliteLog(path)
    wanted: Counter[str] = Counter()
    rows: list[tuple[str, str, bytes]] = []
    for n, (topic, value, reason) in enumerate(malformed(records, seed, oversize)):
        wanted[reason.value] += 1
        rows.append((topic, _id(value, n), value))
        if len(rows) == BATCH or sum(len(r[2]) for r in rows) > 32 << 20:
            write_raw(path, rows)
            rows = []
            print(f"wrote {n + 1} of {records}", file=sys.stderr, flush=True)
    write_raw(path, rows)
    later = event(records, "consent")
    later.consent_changed.may_learn = True
    later.time.FromSeconds(START + 40 * DAY)
    log.append([later])  # log time goes on: who waits for a response has waited long enough
    log.close()
    return wanted


def _id(value: bytes, n: int) -> str:
    """The row's name in the log: the event's own id where it has one that can be read."""
    found, _ = parse_event(value)
    return found.event_id if found is not None else f"raw-{n}"


if __name__ == "__main__":
    sys.exit(main())

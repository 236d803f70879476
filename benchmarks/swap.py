"""Swaps under load: a real serving process, streams over gRPC, and a new version every few seconds.

    python -m benchmarks.swap --seconds 300

Every version is a sentinel that can say one word only, and its neighbours say other words: one token drawn with
another version's weights shows. Versions come through the registry, as the learner brings them: published as a shadow
and sampled from first (`--path staged`), or unannounced (`--path direct`, then loading and checking come after READY).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.swap_load import Load, percentile
from benchmarks.swap_versions import Versions, sentinels_of
from deploy import children
from heliotrope.chat import ChatFormat
from heliotrope.client import AsyncClient
from heliotrope.config import Config, load
from heliotrope.v1 import admin_pb2

WARM_SWAPS = 5
"""Swaps before memory is first read: the engine's buffers have their size by then."""
IN_FLIGHT = 8


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.swap", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--swaps", type=int, default=1000, help="stop after so many swaps (default 1000)")
    parser.add_argument(
        "--seconds", type=float, default=480, help="stop swapping after so long (default 480)"
    )
    parser.add_argument(
        "--still", type=float, default=40, help="seconds of load without swaps before (default 40)"
    )
    parser.add_argument("--streams", type=int, default=16, help="responses streamed at once (default 16)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of the shortest response (default 64)")
    parser.add_argument("--words", type=int, default=4, help="different sentinels, 2 to 8 (default 4)")
    parser.add_argument(
        "--path", choices=("staged", "direct"), default="staged", help="see above (default staged)"
    )
    return parser.parse_args()


@asynccontextmanager
async def serving(config: Config, options: list[str], state: Path) -> AsyncIterator[tuple[AsyncClient, int]]:
    """A serving process and a client; the process id."""
    programs: list[children.Child] = []
    async with children.keeping(programs, grace=45):
        programs.append(await children.start("serving", ["serving", *options], state / "serving.log"))
        address = config.serving
        async with AsyncClient(address.public_address, address.private_address) as client:
            await children.healthy(client, 300)
            yield client, programs[0].process.pid


async def measure(asked: argparse.Namespace, state: Path) -> dict[str, Any]:
    """The whole run; what is printed."""
    public, private, http = children.free_ports(3)
    overrides = [
        f"paths.state={state}", f"serving.public_port={public}", f"serving.private_port={private}",
        f"serving.http_port={http}", "comparisons.share=0.0", "engine.dtype=float32",
    ]  # fmt: skip
    config = load(None, overrides)
    say("building sentinels and their trainer's records")
    chat = ChatFormat.load(config.model.folder, config.model.system_prompt)
    forced = sentinels_of(config.model.folder, chat, asked.words)
    options = [word for override in overrides for word in ("--set", override)]
    began = time.monotonic()
    async with serving(config, options, state) as (client, pid):
        say(f"serving answers after {time.monotonic() - began:.1f} s")
        first = await client.status()
        load_ = Load(client, [one.word for one in forced], asked.streams, asked.tokens)
        versions = Versions(
            config.paths.registry, forced, chat.envelope.base_digest, client, staged=asked.path == "staged"
        )
        try:
            found = await swap(asked, client, load_, versions, pid)
        finally:
            await versions.close()
    say(json.dumps(found))
    say("starting again, with a live and a last good version to load and check")
    async with serving(config, options, state) as (client, _):
        return found | {"start": started(first), "start_with_versions": started(await client.status())}


def started(status: admin_pb2.GetStatusResponse) -> dict[str, float]:
    """Seconds of the engine's own load, and from there to ready."""
    return {
        "engine_s": round(status.engine_start_seconds, 1), "ready_s": round(status.ready_seconds, 1),
        "versions": len(status.slots),
    }  # fmt: skip


@dataclass
class Seen:
    """Of each swap: seconds from READY to the first token on it, responses in flight, slots taken, memory (MB)."""

    waits: list[float] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


async def swap(
    asked: argparse.Namespace, client: AsyncClient, load_: Load, versions: Versions, pid: int
) -> dict[str, Any]:
    """One version live, load without swaps, then swaps; every response is read to its end."""
    await versions.bring()
    load_.start()
    await asyncio.sleep(asked.still)
    load_.swapping = True
    seen, end = Seen(), time.monotonic() + asked.seconds
    while len(seen.waits) < asked.swaps and time.monotonic() < end:
        brought = await versions.bring()
        before = await client.status()
        first = await load_.first_token(brought.version)
        seen.waits.append(first - brought.ready_at)
        seen.in_flight.append(before.in_flight)
        seen.slots.append(len(before.slots))
        seen.memory.append(resident_mb(pid))
        if len(seen.waits) % 10 == 1:
            say(
                f"{len(seen.waits)} swaps, {len(load_.done)} responses, {brought}, live after {seen.waits[-1]:.2f} s, "
                f"{seen.memory[-1]:.0f} MB"
            )
        load_.raise_if_failed()
    await load_.finish()
    return report(asked, load_, versions, seen)


def report(asked: argparse.Namespace, load_: Load, versions: Versions, seen: Seen) -> dict[str, Any]:
    """The figures, from what was seen."""
    waits, memory, in_flight = seen.waits, seen.memory, seen.in_flight
    still, moving = percentile(load_.gaps[False], 99), percentile(load_.gaps[True], 99)
    settled = memory[WARM_SWAPS:] or memory
    tenth = max(1, len(settled) // 10)
    each = statistics.median(versions.seconds)
    found = {
        "swaps": len(waits), "requests": len(load_.done), "failed": load_.failed, "mixed": load_.mixed,
        "ready_to_live_p50_s": round(percentile(waits, 50), 3),
        "added_inter_token_p99_ms": round(1000 * (moving - still), 1),
        "rss_growth_mb": round(statistics.median(settled[-tenth:]) - statistics.median(settled[:tenth]), 1),
        "ready_to_live_p99_s": round(percentile(waits, 99), 3), "path": asked.path, "streams": asked.streams,
        "inter_token_p99_ms": {"still": round(1000 * still, 1), "swapping": round(1000 * moving, 1)},
        "inter_token_p50_ms": {
            "still": round(1000 * percentile(load_.gaps[False], 50), 1),
            "swapping": round(1000 * percentile(load_.gaps[True], 50), 1),
        },
        "in_flight_min": min(in_flight, default=0), "swaps_below_8_in_flight": sum(n < IN_FLIGHT for n in in_flight),
        "slots_most": max(seen.slots, default=0), "versions_answered": len(load_.versions), "seconds_a_version": round(each, 2),
    }  # fmt: skip
    if len(waits) < asked.swaps:
        found["fewer_because"] = (
            f"{asked.seconds:g} s were given and a version takes {each:.1f} s to load, check and swap in under load here"
        )
        say(f"fewer than {asked.swaps} swaps: {found['fewer_because']}")
    return found


def resident_mb(pid: int) -> float:
    """Memory of a process and all below it, MB."""
    total, todo = 0, [pid]
    while todo:
        one = todo.pop()
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1])
            for task in Path(f"/proc/{one}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return total * 4096 / 1e6


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """0 when nothing failed or was mixed."""
    asked = arguments()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="heliotrope-swap-") as folder:
        state = Path(folder)
        try:
            found = asyncio.run(measure(asked, state))
        except BaseException:
            log = state / "serving.log"
            say("\n".join(log.read_text(errors="replace").splitlines()[-25:]) if log.exists() else "")
            raise
    print(json.dumps(found))
    return 1 if found["failed"] or found["mixed"] else 0


if __name__ == "__main__":
    sys.exit(main())

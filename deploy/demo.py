"""`make demo`: the whole loop with simulated people, and at the end a judgement that nobody trained on.

Serving and learner run as separate processes on free ports and a fresh state folder. People chat and compare through
the public API; the learner trains, its judge decides, serving swaps. At the end base and the live policy answer kept
prompts and the hidden utility compares them. The last line is JSON. Exit status 0: better than base beyond doubt and
no request failed; 1: not so; 2: it could not run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import tomllib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from rich.console import Console

from deploy import children
from deploy.board import Board
from deploy.follow import Follower
from heliotrope.cli.show import versions
from heliotrope.cli.simulate import table
from heliotrope.client import AsyncClient
from heliotrope.config import Config, load
from heliotrope.errors import ConfigError, HeliotropeError
from heliotrope.settings.base import Section
from heliotrope.simulate import report
from heliotrope.simulate.drive import Crowd, Plan, shared_prompts
from heliotrope.simulate.people import Population

FILE = Path(__file__).with_name("demo.toml")
START_SECONDS = 300.0


class Demo(Section):
    """The [demo] table; what each key means stands in deploy/demo.toml."""

    comparisons: int = Field(300, ge=1)
    people: int = Field(100, ge=1)
    concurrency: int = Field(16, ge=1, le=1000)
    seed: int = Field(1, ge=0)
    shared: int = Field(10, ge=0)
    shared_every: int = Field(6, ge=1)
    max_tokens: int = Field(48, ge=1)
    temperature: float = Field(0.8, ge=0, le=2)
    chats_at_swap: int = Field(12, ge=0)
    patience_seconds: float = Field(240, gt=0)
    final_prompts: int = Field(100, ge=1)
    final_samples: int = Field(2, ge=1, le=64)

    def plan(self) -> Plan:
        """What the people do."""
        return Plan(**{name: getattr(self, name) for name in Plan.__dataclass_fields__})

    def final(self) -> report.Final:
        """How the end is judged."""
        return report.Final(self.final_prompts, self.final_samples, self.max_tokens, self.temperature)


def settings(file: Path, state: Path, overrides: Sequence[str] = ()) -> tuple[Demo, Path]:
    """The demo's own settings, and the file that both programs are started with, written into `state`.

    Overrides are `section.key=value`, `demo.` among the sections. Raises ConfigError for anything unknown or out of bounds.
    """
    try:
        data = tomllib.loads(file.read_text())
        for text in overrides:
            _override(data, text)
        demo = Demo.model_validate(data.pop("demo", {}))
    except (OSError, ValueError) as error:
        reason = (
            "; ".join(f"demo.{e['loc'][0]}: {e['msg']}" for e in error.errors())
            if isinstance(error, ValidationError)
            else error
        )
        raise ConfigError(f"{file}: {reason}; correct it and run again") from error
    state.mkdir(parents=True, exist_ok=True)
    pool = state / "shared-prompts.txt"
    pool.write_text("".join(f"{prompt}\n" for prompt in shared_prompts(demo.shared)))
    http, public, private = children.free_ports(3)
    data.setdefault("paths", {})["state"] = str(state)
    data.setdefault("comparisons", {})["shared_pool"] = str(pool)
    data.setdefault("serving", {}).update(http_port=http, public_port=public, private_port=private)
    written = state / "heliotrope.toml"
    written.write_text(_toml(data))
    load(written)
    return demo, written


def _override(data: dict[str, Any], text: str) -> None:
    key, _, value = text.partition("=")
    section, dot, name = key.partition(".")
    if not (dot and name and value):
        raise ConfigError(
            f"override {text!r} is not of the form section.key=value, such as demo.comparisons=100"
        )
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    data.setdefault(section, {})[name] = parsed


def _toml(data: dict[str, dict[str, Any]]) -> str:
    """Sections of plain values as TOML; strings, numbers, booleans and lists read the same in JSON."""
    lines = []
    for section, values in data.items():
        lines += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items()), ""]
    return "\n".join(lines)


async def run(demo: Demo, file: Path, config: Config) -> report.Report:
    """The whole demo; the processes end with it, however it ends."""
    children.cancel_on_signals()
    began, programs, options = time.monotonic(), [], ["--config", str(file)]
    logs, serving = config.paths.state / "logs", config.serving
    print(f"state {config.paths.state}\nlogs  {logs}/serving.log, {logs}/learner.log", flush=True)
    async with (
        AsyncClient(serving.public_address, serving.private_address) as client,
        children.keeping(programs),
    ):
        programs.append(await children.start("serving", ["serving", *options], logs / "serving.log"))
        await children.healthy(client, START_SECONDS)
        programs.append(await children.start("learner", ["learner", *options], logs / "learner.log"))
        print(f"page  {serving.page_url}", flush=True)
        return await people_and_judgement(demo, client, config, began)


async def people_and_judgement(
    demo: Demo, client: AsyncClient, config: Config, began: float
) -> report.Report:
    """People compare until they are done, chat on until the learner has settled, and then the end is judged."""
    crowd = Crowd(client, demo.plan())
    follower = Follower(client, crowd.ledger, config.learner.min_new)
    with Board(follower, crowd.ledger, demo.comparisons, began=began) as board:
        watch = asyncio.create_task(follower.watch(board.show))
        try:
            board.say("people compare")
            await _either(crowd.compare(), watch)
            board.say("the learner finishes, people chat on")
            await _either(chat_on(demo, crowd, follower), watch)
            await follower.look()
            live = follower.status.live
            board.say(f"base and {live} answer kept prompts")
            drawn = [await report.draw(client, crowd.ledger, name, demo.final()) for name in ("base", live)]
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        board.say("judged")
    agreement = report.agreement(drawn[0], Population(demo.seed, demo.people))
    return _report(follower, live, report.judge(*drawn), agreement, began)


async def chat_on(demo: Demo, crowd: Crowd, follower: Follower) -> None:
    """Nobody votes any more; while the judge works and versions are swapped, people are in mid-chat."""
    done = asyncio.Event()

    def wanted() -> int:
        if follower.settled(demo.patience_seconds):
            done.set()
        return demo.chats_at_swap if follower.swap_is_near else 0

    await follower.look()
    follower.moved_at = time.monotonic()
    await crowd.keep_chatting(wanted, done)


async def _either(work: Any, watch: asyncio.Task[None]) -> None:
    """Wait for the work; an error of the watcher ends it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            watch.result()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _report(
    follower: Follower, live: str, judged: report.Judgement, agreement: float | None, began: float
) -> report.Report:
    ledger = follower.ledger
    console = Console()
    console.print(versions(follower.policies, "Versions"))
    console.print(table(ledger))
    manifest = follower.manifests.get(live)
    return report.Report(
        comparisons=ledger.comparisons, versions=report.published(follower.policies),
        true_win_rate=judged.true_win_rate, ci95=judged.ci95,
        kl_nats=0.0 if live == report.BASE else report.kl_nats(manifest or {}),
        length_ratio=judged.length_ratio, length_control_win_rate=judged.length_control_win_rate,
        agreement=agreement, in_flight_at_last_swap=follower.status.in_flight_at_last_swap,
        seconds=time.monotonic() - began, requests=ledger.requests, failed_requests=ledger.failed,
    )  # fmt: skip


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.demo", description="The whole loop with simulated people."
    )
    parser.add_argument("--config", type=Path, default=FILE, help="default: deploy/demo.toml")
    parser.add_argument(
        "--state", type=Path, help="a new folder for the state; default: state/demo-DATE-TIME"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting"
    )
    asked = parser.parse_args()
    state = (asked.state or Path("state") / f"demo-{datetime.now():%Y%m%d-%H%M%S}").resolve()
    try:
        demo, file = settings(asked.config, state, asked.set)
        result = asyncio.run(run(demo, file, load(file)))
    except HeliotropeError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("demo: stopped", file=sys.stderr)
        return 130
    print(result.line(), flush=True)
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())

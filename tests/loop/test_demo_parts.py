"""What `make demo` and `make run` are made of: settings, child processes, following the learner, and the whole course."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import children, demo, run
from deploy.follow import Follower
from heliotrope.client import AsyncClient
from heliotrope.config import load
from heliotrope.errors import ConfigError, Unavailable
from heliotrope.simulate.drive import shared_prompts
from heliotrope.simulate.ledger import Ledger
from heliotrope.v1 import admin_pb2, policy_pb2
from tests.heliotrope.scripted_loop import Scripted, scripted_loop
from tests.waiting import until, until_async

STUB = "tests.loop.stub_program"


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def pids_of(child: children.Child) -> list[int]:
    """The process ids that the stub has announced."""
    await until_async(lambda: "pids" in child.log.read_text())
    return [int(word) for word in child.log.read_text().split("pids ")[1].split("\n")[0].split()]


def test_the_demo_file_is_a_configuration_for_both_programs(tmp_path: Path) -> None:
    asked, file = demo.settings(demo.FILE, tmp_path / "state")
    config = load(file)
    assert config.paths.state == tmp_path / "state"
    assert config.learner.sources == ("simulated",) and config.rollout.mode == "auto"
    ports = {config.serving.http_port, config.serving.public_port, config.serving.private_port}
    assert len(ports) == 3
    assert config.comparisons.shared_pool is not None
    assert config.comparisons.shared_pool.read_text().splitlines() == list(shared_prompts(asked.shared))
    assert asked.comparisons <= 600 and asked.max_tokens <= config.serving.max_tokens
    assert asked.final_prompts >= 100 and asked.final_samples == 2
    assert asked.chats_at_swap >= 8


def test_the_demo_obeys_overrides_and_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    asked, file = demo.settings(
        demo.FILE, tmp_path, ["demo.comparisons=7", "learner.min_new=3", "rollout.mode=manual"]
    )
    assert (asked.comparisons, asked.plan().comparisons) == (7, 7)
    assert (load(file).learner.min_new, load(file).rollout.mode) == (3, "manual")
    for wrong, says in (
        ("demo.peeple=3", "demo.peeple"), ("demo.people=0", "demo.people"), ("learner.min_new=0", "learner.min_new"),
        ("people", "not of the form"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            demo.settings(demo.FILE, tmp_path, [wrong])


async def test_a_program_that_dies_is_named_with_its_last_words(tmp_path: Path) -> None:
    programs: list[children.Child] = []
    with pytest.raises(children.ChildDied, match="learner ended with status 3(?s:.)*the port 50051 is taken"):
        async with asyncio.timeout(30), children.keeping(programs):
            programs.append(await children.start("serving", [STUB, "polite"], tmp_path / "serving.log"))
            await pids_of(programs[0])
            programs.append(await children.start("learner", [STUB, "die"], tmp_path / "learner.log"))
            await asyncio.Event().wait()
    assert "drained" in (tmp_path / "serving.log").read_text(), "the other one was asked to stop"
    assert programs[0].process.returncode == 0


async def test_a_stubborn_program_and_its_children_are_killed(tmp_path: Path) -> None:
    programs: list[children.Child] = []
    with pytest.raises(Unavailable, match="something else went wrong"):
        async with children.keeping(programs, grace=0.2):
            programs.append(await children.start("serving", [STUB, "stubborn"], tmp_path / "serving.log"))
            pids = await pids_of(programs[0])
            raise Unavailable("something else went wrong")
    assert len(pids) == 2
    await until_async(lambda: not any(alive(pid) for pid in pids))


def test_programs_go_when_the_demo_is_killed_outright(tmp_path: Path) -> None:
    log = tmp_path / "serving.log"
    driver = f"""
import asyncio
from pathlib import Path
from deploy import children
async def main():
    await children.start("serving", ["{STUB}", "polite"], Path({str(log)!r}))
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", driver], cwd=children.ROOT) as parent:
        until(lambda: log.exists() and "pids" in log.read_text(), 30)
        pid = int(log.read_text().split()[1])
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
    until(lambda: not alive(pid))
    assert "drained" in log.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_drains_the_programs(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "serving.log"
    driver = f"""
import asyncio
from pathlib import Path
from deploy import children
async def main():
    children.cancel_on_signals()
    programs = []
    async with children.keeping(programs):
        programs.append(await children.start("serving", ["{STUB}", "polite"], Path({str(log)!r})))
        await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", driver], cwd=children.ROOT, stderr=subprocess.PIPE
    ) as parent:
        until(lambda: log.exists() and "pids" in log.read_text(), 30)
        parent.send_signal(number)
        assert parent.wait(30) != 0
        assert parent.stderr is not None and b"CancelledError" in parent.stderr.read()
    assert "drained" in log.read_text()
    assert not alive(int(log.read_text().split()[1]))


async def test_waiting_for_health_ends_with_the_reason() -> None:
    async with AsyncClient("127.0.0.1:9", "127.0.0.1:9") as client:
        with pytest.raises(Unavailable, match="serving is not ready after 0 s"):
            await children.healthy(client, 0.0)
    async with scripted_loop(Scripted()) as addresses, AsyncClient(*addresses) as client:
        await children.healthy(client, 5.0)
        assert (await client.status()).live == "policy-v0"


def test_a_taken_port_is_named_with_a_way_out() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        others = children.free_ports(2)
        options = [
            f"serving.http_port={port}",
            f"serving.public_port={others[0]}",
            f"serving.private_port={others[1]}",
        ]
        with pytest.raises(
            ConfigError, match=rf"port {port} \(serving.http_port\) is taken.*--set serving.http_port="
        ):
            run.check_ports(load(None, options))
    run.check_ports(load(None, options))


def follower(known: int, states: tuple[int, ...] = (), slots: tuple[str, ...] = ()) -> Follower:
    """After 50 comparisons, 40 of them preferences, of which the newest version has seen `known`."""
    ledger = Ledger(thumbs=50)
    ledger.choices.update(a=20, b=20, skip=10)
    made = Follower(AsyncClient(), ledger, min_new=20)
    made.policies = [policy_pb2.Policy(policy_version="policy-v1", state=state) for state in states]  # type: ignore[arg-type]
    made.manifests = {"policy-v1": {"metrics": {"preferences": known}}}
    made.status = admin_pb2.GetStatusResponse(slots=[admin_pb2.Slot(use=use) for use in slots])
    return made


async def test_the_run_waits_for_a_version_that_is_on_its_way() -> None:
    live, candidate = policy_pb2.POLICY_STATE_LIVE, policy_pb2.POLICY_STATE_CANDIDATE
    assert follower(16, (live,)).unlearned() == 24
    assert not follower(16, (live,)).settled(60)
    assert follower(24, (live,)).settled(60)
    waiting = follower(24, (candidate,))
    assert waiting.swap_is_near and not waiting.settled(60)
    judged = follower(24, (live,))
    judged.restless = True
    assert judged.swap_is_near and not judged.settled(60)
    assert judged.settled(-1), "patience has an end"


async def test_the_course_of_a_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "demo.comparisons=40",
        "demo.people=20",
        "demo.shared=2",
        "demo.shared_every=4",
        "demo.final_prompts=10",
    ]
    asked, file = demo.settings(demo.FILE, tmp_path, [*options, "learner.min_new=10"])
    script = Scripted(votes_for_version=40, chats_for_swap=9, pool=frozenset(shared_prompts(2)))
    async with scripted_loop(script) as addresses, AsyncClient(*addresses) as client, asyncio.timeout(60):
        end = await demo.people_and_judgement(asked, client, load(file), began=0.0)
    assert (end.comparisons, end.versions, end.failed_requests) == (40, 1, 0)
    assert end.in_flight_at_last_swap >= 9, "people were in mid-chat when the version came"
    assert (end.true_win_rate, end.kl_nats) == (1.0, 3.25)
    assert end.good and json.loads(end.line())["agreement"] is None, (
        "base's scripted answers are both bad to all"
    )
    assert end.requests == len(script.chats) + len(script.votes) + 2, "chats, votes and the two final draws"
    out = capsys.readouterr().out
    assert "phase people compare" in out and "comparisons 40/40" in out
    assert "loss 0.610  accuracy 0.700  win rate 0.800" in out
    assert out.index("policy-v1") < out.index("Simulated people")


async def test_a_failed_request_makes_the_demo_fail(tmp_path: Path) -> None:
    options = ["demo.comparisons=20", "demo.final_prompts=5", "learner.min_new=1000"]
    asked, file = demo.settings(demo.FILE, tmp_path, options)
    script = Scripted(fail_every=7, live=1)
    async with scripted_loop(script) as addresses, AsyncClient(*addresses) as client, asyncio.timeout(60):
        end = await demo.people_and_judgement(asked, client, load(file), began=0.0)
    assert end.failed_requests == 20 // 7 and end.true_win_rate == 1.0
    assert not end.good


def test_nothing_is_started_by_an_unusable_configuration(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.demo", "--state", str(tmp_path), "--set", "demo.people=0"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=children.ROOT, env=os.environ, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr.startswith("demo: ") and "demo.people" in done.stderr and "Traceback" not in done.stderr
    )

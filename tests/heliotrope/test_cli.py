"""The command as people run it: a process of its own against scripted services."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heliotrope.cli import app as commands
from heliotrope.client import PRIVATE, PUBLIC
from heliotrope.identity_file import load_identity
from heliotrope.simulate.drive import Plan
from heliotrope.v1 import feedback_pb2
from tests.heliotrope.scripted_loop import Scripted, scripted_loop

HEAVY = [
    "torch",
    "vllm",
    "transformers",
    "grpc",
    "google.protobuf",
    "numpy",
    "scipy",
    "tokenizers",
    "heliotrope.client",
]
PROBE = """
import sys
sys.argv = ["heliotrope", *{arguments!r}]
from heliotrope.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("LOADED", [name for name in {heavy!r} if name in sys.modules])
"""


async def command(*arguments: str, home: Path | None = None, typed: str = "") -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `heliotrope arguments…`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "heliotrope.cli", *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"COLUMNS": "140"} | ({"XDG_CONFIG_HOME": str(home)} if home else {}),
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(typed.encode()), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["chat", "--help"], ["policies", "list", "--help"], ["simulate", "--help"]]
)
def test_help_imports_nothing_heavy_and_is_fast(arguments: list[str]) -> None:
    code = PROBE.format(arguments=arguments, heavy=HEAVY)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout and "LOADED []" in done.stdout
    assert time.monotonic() - began < 10, "even on a machine that is busy with other tests"


def test_options_default_to_what_the_client_and_the_plan_say() -> None:
    assert (commands.PUBLIC_ADDRESS, commands.PRIVATE_ADDRESS) == (PUBLIC, PRIVATE)
    defaults = commands.simulate.__defaults__
    plan = Plan()
    assert defaults is not None
    assert defaults[:5] == (plan.people, plan.comparisons, plan.concurrency, plan.seed, plan.max_tokens)


async def test_a_conversation_with_a_thumb_an_undo_and_a_comparison(tmp_path: Path) -> None:
    script = Scripted()
    typed = "Why?\n/good [nice]\n/undo\n/compare\nHow?\nx\nb\n/quit\n"
    async with scripted_loop(script) as (public, _):
        code, out, err = await command("chat", "--address", public, home=tmp_path, typed=typed)
    assert (code, err) == (0, "")
    assert "5 minutes and 2 tools" in out and "A was policy-v0, B was policy-v0" in out
    first, second = (vote.feedback for vote in script.votes.values())
    assert first.thumb.up and first.comment == "[nice]"
    assert second.comparison.choice == feedback_pb2.CHOICE_B
    assert script.retracted == [next(iter(script.votes))]
    assert set(script.users) == {load_identity(tmp_path / "heliotrope" / "identity")}
    assert script.chats[1].conversation_id == "c1"


async def test_on_a_terminal_one_key_picks_between_two_panes(tmp_path: Path) -> None:
    script, (ours, theirs) = Scripted(), pty.openpty()
    environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path), "TERM": "xterm", "COLUMNS": "100"}
    async with scripted_loop(script) as (public, _):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "heliotrope.cli", "chat", "How?", "--compare", "--address", public,
            stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
        )  # fmt: skip
        os.close(theirs)
        shown = await asyncio.to_thread(_read_until, ours, "better:")
        os.write(ours, b"xa")
        assert await asyncio.wait_for(process.wait(), 30) == 0
        shown += await asyncio.to_thread(_read_until, ours, "B was")
    os.close(ours)
    assert "╭" in shown and " A " in shown and " B " in shown and "5 minutes" in shown
    assert [vote.feedback.comparison.choice for vote in script.votes.values()] == [feedback_pb2.CHOICE_A]


def _read_until(handle: int, words: str) -> str:
    """What the terminal shows up to `words` (or its end)."""
    shown = b""
    while words.encode() not in shown:
        try:
            shown += os.read(handle, 4096)
        except OSError:
            break
    return shown.decode(errors="replace")


async def test_one_question_is_answered_and_that_is_all(tmp_path: Path) -> None:
    async with scripted_loop(Scripted()) as (public, _):
        code, out, err = await command("chat", "Why?", "--address", public, home=tmp_path)
    assert (code, err) == (0, "") and out.startswith("1. Why: you need 5 minutes")


async def test_without_serving_there_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    for arguments in (["chat", "Why?", "--address", "127.0.0.1:9"], ["status", "--private", "127.0.0.1:9"]):
        code, out, err = await command(*arguments, home=tmp_path)
        assert (code, out) == (1, "")
        assert err == "heliotrope: no answer from 127.0.0.1:9: is serving running? start it with `make run`\n"


async def test_versions_are_listed_shown_promoted_and_rolled_back() -> None:
    script = Scripted(live=1)
    async with scripted_loop(script) as (_, private):
        _, listed, _ = await command("policies", "list", "--private", private)
        _, shown, _ = await command("policies", "show", "policy-v1", "--private", private)
        promoted = [
            "policies",
            "promote",
            "policy-v1",
            "--force",
            "--reason",
            "it is mine",
            "--private",
            private,
        ]
        _, done, _ = await command(*promoted)
        code, _, refused = await command(
            "policies", "rollback", "--reason", "harm", "--stop-in-flight", "--private", private
        )
    assert listed.index("policy-v1") < listed.index("policy-v0") and "retired" in listed
    assert "reward_win_rate" in shown and "win_rate 0.8" in shown and "0.61" in shown
    assert done == "policy-v1 is live (epoch 4); 2 responses finish on the one before\n"
    assert code == 1 and refused == "heliotrope: policy-v0 is live: there is nothing to roll back\n"
    forced, back = script.asked
    assert forced.force and forced.reason == "it is mine"  # type: ignore[attr-defined]
    assert back.stop_in_flight and back.reason == "harm"  # type: ignore[attr-defined]


async def test_status_and_tail_show_what_is_there() -> None:
    async with scripted_loop(Scripted(votes_for_version=0)) as (_, private):
        _, status, _ = await command("status", "--private", private)
        code, tail, err = await command("feedback", "tail", "--stop", "--private", private)
    assert "policy-v0" in status and "shadow-1" in status
    assert (code, err) == (0, "")
    first, second = tail.splitlines()
    assert first.split() == ["7", "–", "ab" * 16, "thumb", "up:", "[red]just", "right", "on", "policy-v1"]
    assert second.endswith("took back f1")


async def test_simulate_prints_what_people_did_and_fails_when_a_request_failed() -> None:
    script = Scripted()
    options = [
        "simulate",
        "--people",
        "5",
        "--comparisons",
        "12",
        "--concurrency",
        "3",
        "--seed",
        "2",
        "--address",
    ]
    async with scripted_loop(script) as (public, _):
        code, out, _ = await command(*options, public)
    assert code == 0 and len(script.chats) == 12
    assert "12 (" in out and "not measured (no shared items)" in out
    async with scripted_loop(Scripted(fail_every=4)) as (public, _):
        code, out, _ = await command(*options, public)
    assert code == 1 and "failed 3×" in out and "RESOURCE_EXHAUSTED" in out


async def test_a_wrong_option_is_explained() -> None:
    code, _, err = await command("simulate", "--people", "0")
    assert code == 2 and "--people" in err

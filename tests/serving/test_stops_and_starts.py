"""Draining, starting again, a full disk, and `python -m serving` as a process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.children import free_ports
from heliotrope.errors import FailedPrecondition, ResourceExhausted
from heliotrope.v1 import chat_pb2, common_pb2, feedback_pb2
from serving.build import build
from tests.serving.running import (
    ALICE,
    World,
    fails,
    read,
    request,
    rest,
    running,
    scripted_engine,
    settings,
    small_format,
)
from tests.waiting import until_async

ON = chat_pb2.COMPARISON_WISH_ON


@pytest.fixture
async def world(tmp_path: Path):
    async with running(tmp_path / "state", "serving.drain_seconds=0.3") as world:
        yield world


async def test_a_drain_refuses_the_new_and_finishes_what_runs(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as world:
        world.engine.hold(after=2)
        call = world.chats.Chat(request(), metadata=ALICE)
        assert (await call.read()).HasField("started")
        draining = asyncio.create_task(world.server.drain())
        await until_async(lambda: world.server.gate.draining)
        async with fails(grpc.StatusCode.UNAVAILABLE, "stopping", "try again"):
            await world.chat()
        answer = await health_pb2_grpc.HealthStub(world.public).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        world.engine.release()
        assert (await rest(call))[-1].HasField("finished")
        await draining
        (closed,) = world.events("exchanges", "response_served")
        assert closed.response_served.finish_reason == common_pb2.FINISH_REASON_STOP


async def test_what_does_not_end_in_time_is_cancelled_and_recorded(world: World) -> None:
    world.engine.hold(after=2)
    call = world.chats.Chat(request(), metadata=ALICE)
    assert (await call.read()).HasField("started")
    await world.server.drain()
    ends = [c.answer_finished.finish_reason for c in await rest(call) if c.HasField("answer_finished")]
    assert ends == [common_pb2.FINISH_REASON_CANCELLED]
    (closed,) = world.events("exchanges", "response_served")
    assert closed.response_served.finish_reason == common_pb2.FINISH_REASON_CANCELLED


async def test_conversations_come_back_with_the_choices_made_in_them(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as world:
        first = await world.chat("one", comparison=ON)
        choice = feedback_pb2.Comparison(choice=feedback_pb2.CHOICE_B)
        await world.give(first.started.feedback_ticket, comparison=choice)
        unvoted = await world.chat("uno", comparison=ON)
    async with running(tmp_path / "state") as world:
        await world.chat("two", conversation_id=first.started.conversation_id)
        await world.chat("due", conversation_id=unvoted.started.conversation_id)
        served = [e.response_served for e in world.events("exchanges", "response_served")]
        assert [m.content for m in served[-2].messages] == ["one", first.texts[first.ids[1]], "two"]
        assert served[-1].started.parent_response_id == unvoted.ids[0]


async def test_a_response_cut_off_by_a_crash_is_closed_as_lost_at_the_next_start(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as world:
        answered = await world.chat()
        journal = world.server.replies.journal
        started = world.events("exchanges", "response_started")[0]
        cut = journal.event("00000000-0000-0000-0000-00000000000a", world_origin(world))
        cut.response_started.CopyFrom(started.response_started)
        cut.response_started.response_id = cut.event_id
        await journal.commit(cut)
    for _ in range(2):  # once, however often it starts
        async with running(tmp_path / "state") as world:
            served = [e.response_served for e in world.events("exchanges", "response_served")]
            assert [s.response_id for s in served] == [answered.ids[0], cut.event_id]
            assert served[1].finish_reason == common_pb2.FINISH_REASON_LOST


def world_origin(world: World):
    from serving.caller import Caller
    from serving.journal import Origin

    return Origin(Caller("default", "e" * 32), "c")


async def test_a_full_disk_leaves_chat_going_and_refuses_votes(world: World) -> None:
    answered = await world.chat(comparison=ON)
    journal = world.server.replies.journal
    write = journal.write

    async def full(events):
        raise ResourceExhausted("no room to write the log; free disk space")

    journal.write = full
    before = world.counts()
    unlogged = await world.chat("hello?", comparison=ON)
    assert all(len(t) == 8 for t in unlogged.texts.values()) and unlogged.chunks[-1].HasField("finished")
    assert unlogged.started.feedback_ticket == "" and "log" in unlogged.started.no_feedback_reason
    async with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "free disk space"):
        choice = feedback_pb2.Comparison(choice=feedback_pb2.CHOICE_A)
        await world.give(answered.started.feedback_ticket, comparison=choice)
    assert world.counts() == before
    journal.write = write
    assert (await world.chat("again")).started.feedback_ticket


async def test_an_unforeseen_error_has_an_incident_id_and_leaves_the_process_up(world: World, caplog) -> None:
    world.engine.fail["generate"] = ZeroDivisionError("scripted bug")
    async with fails(grpc.StatusCode.INTERNAL, "ZeroDivisionError", "incident"):
        await read(world.chats.Chat(request(), metadata=ALICE))
    assert "scripted bug" in caplog.text
    assert (await world.chat()).ids and not world.server.replies.running


async def test_a_second_start_on_the_same_state_is_refused(world: World) -> None:
    chat = small_format()
    with pytest.raises(FailedPrecondition, match=f"in use by another serving .process {os.getpid()}"):
        build(settings(world.config.paths.state), engine=scripted_engine(chat), chat=chat, vocabulary=258)
    assert (await world.chat()).ids


def serving(*overrides: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m serving` to its end."""
    command = [sys.executable, "-m", "serving", *(f"--set={o}" for o in overrides)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_the_process_says_what_is_wrong_and_exits_with_1(tmp_path: Path) -> None:
    for overrides, words in (
        (["serving.colour=1"], "unknown key serving.colour"),
        ([f"paths.state={tmp_path / 'a'}", f"model.path={tmp_path / 'none'}"], "run `make setup`"),
    ):
        done = serving(*overrides)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr


HARNESS = """
import asyncio, sys
from pathlib import Path
from tests.serving.running import scripted_engine, small_format
import serving.build, serving.__main__
chat = small_format()
make = serving.build.build
serving.build.build = lambda config: make(config, engine=scripted_engine(chat), chat=chat, vocabulary=258)
sys.exit(serving.__main__.main())
"""


def process(tmp_path: Path, ports: list[int]) -> subprocess.Popen[str]:
    """The real `main()` with the scripted engine."""
    sets = [f"paths.state={tmp_path / 'state'}"]
    sets += [
        f"serving.{k}={p}" for k, p in zip(("public_port", "private_port", "http_port"), ports, strict=True)
    ]
    command = [sys.executable, "-c", HARNESS, *(f"--set={s}" for s in sets)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_with_0(tmp_path: Path, how: signal.Signals) -> None:
    ports = free_ports(3)
    running_process = process(tmp_path, ports)
    try:
        assert running_process.stdout and f"127.0.0.1:{ports[0]}" in running_process.stdout.readline()
        with grpc.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        running_process.send_signal(how)
        _, errors = running_process.communicate(timeout=20)
    finally:
        running_process.kill()
        running_process.wait()
    assert running_process.returncode == 0 and "Traceback" not in errors


def test_a_taken_port_is_named_with_its_setting(tmp_path: Path) -> None:
    import socket

    ports = free_ports(3)
    with socket.create_server(("127.0.0.1", ports[1])):
        refused = process(tmp_path, ports)
        try:
            _, errors = refused.communicate(timeout=30)
        finally:
            refused.kill()
            refused.wait()
    assert refused.returncode == 1
    assert (
        f"127.0.0.1:{ports[1]}" in errors and "serving.private_port" in errors and "Traceback" not in errors
    )

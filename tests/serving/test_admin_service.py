"""How things stand, feedback as it comes, health and reflection."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from heliotrope.v1 import admin_pb2, feedback_pb2
from tests.serving.running import ALICE, World, publish, request, rest, running
from tests.waiting import until_async


@pytest.fixture
async def world(tmp_path: Path):
    async with running(tmp_path / "state") as world:
        yield world


async def thumb(world: World) -> str:
    answered = await world.chat()
    given = await world.give(
        answered.started.feedback_ticket, thumb=feedback_pb2.Thumb(response_id=answered.ids[0], up=True)
    )
    return given.feedback_id


async def test_status_tells_what_is_live_resident_and_in_flight(world: World) -> None:
    publish(world.registry, 0.1)
    await until_async(lambda: world.server.desk.table.live.version == "policy-v1")
    world.engine.hold()
    call = world.chats.Chat(request(), metadata=ALICE)
    assert (await call.read()).HasField("started")
    status = await world.admin.GetStatus(admin_pb2.GetStatusRequest())
    assert (status.live, status.last_good, status.in_flight) == ("policy-v1", "policy-v0", 1)
    assert [(s.use, s.adapter, s.in_flight) for s in status.slots] == [("live", "policy-v1", 1)]
    assert (status.slot_capacity, status.in_flight_on_base) == (6, 0)
    assert status.engine_start_seconds > 0 and 0 < status.ready_seconds < 10
    assert (
        dict(status.events) == {"exchanges": 1, "feedback": 0, "policy": 2} and status.base_digest == "0" * 64
    )
    assert (status.rollout_mode, status.epoch) == ("auto", 2) and status.uptime_seconds > 0
    world.engine.release()
    assert (await rest(call))[-1].HasField("finished")


async def test_tail_gives_what_was_and_then_what_comes(world: World) -> None:
    first = await thumb(world)
    whole = await rest(world.admin.TailFeedback(admin_pb2.TailFeedbackRequest(after=0, stop_at_end=True)))
    assert [r.event.event_id for r in whole] == [first]
    assert await rest(world.admin.TailFeedback(admin_pb2.TailFeedbackRequest(stop_at_end=True))) == []
    following = world.admin.TailFeedback(admin_pb2.TailFeedbackRequest(after=0))
    assert (await following.read()).event.event_id == first
    second = await thumb(world)
    assert (await following.read()).event.event_id == second
    following.cancel()


async def test_both_listeners_are_healthy_by_service(world: World) -> None:
    for channel, name in (
        (world.public, "heliotrope.v1.ChatService"),
        (world.private, "heliotrope.v1.PolicyService"),
    ):
        for service in ("", name):
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service)
            )
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_private_listener_reflects_its_services(world: World) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(world.private)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    names = {s.name for s in (await call.read()).list_services_response.service}
    wanted = {"Chat", "Feedback", "Policy", "Sampler", "Ingest", "Admin"}
    assert {f"heliotrope.v1.{w}Service" for w in wanted} <= names

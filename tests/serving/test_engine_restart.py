"""The engine dies and is put back in place while serving lives on; one that dies again and again ends serving."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from heliotrope.errors import Unavailable
from heliotrope.v1 import admin_pb2, common_pb2, feedback_pb2, policy_pb2, sampler_pb2
from serving.availability import Availability
from serving.keeper import MAX_TRIES, Keeper
from tests.serving.running import ALICE, World, fails, publish, read, request, rest, running
from tests.waiting import until_async

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
CHAT, FEEDBACK = "heliotrope.v1.ChatService", "heliotrope.v1.FeedbackService"


@pytest.fixture
async def world(tmp_path: Path):
    async with running(tmp_path / "state") as world:
        yield world


async def health(world: World, service: str = "") -> int:
    checked = health_pb2.HealthCheckRequest(service=service)
    return (await health_pb2_grpc.HealthStub(world.public).Check(checked)).status


async def killed(world: World) -> None:
    """The engine is dead, health says so, and it does not start again before `startable` is set."""
    world.engine.startable.clear()
    world.engine.die()
    await until_async(lambda: not world.server.available.now, 2)


async def put_back(world: World) -> None:
    world.engine.startable.set()
    await until_async(lambda: world.server.available.now, 5)


async def live(world: World, fill: float = 0.5) -> str:
    version = publish(world.registry, fill)
    await until_async(lambda: world.server.desk.table.live.version == version.name)
    return version.name


async def test_health_says_not_serving_until_the_engine_is_back(world: World) -> None:
    assert await health(world) == SERVING
    await killed(world)
    assert await health(world) == NOT_SERVING == await health(world, CHAT)
    assert await health(world, FEEDBACK) == SERVING
    await put_back(world)
    assert await health(world) == SERVING == await health(world, CHAT)
    assert world.engine.starts == 2


async def test_an_answer_cut_off_is_lost_with_the_tokens_that_were_sent(world: World) -> None:
    world.engine.hold(after=3)
    call = world.chats.Chat(request(), metadata=ALICE)
    assert (await call.read()).HasField("started")
    sent = ""
    while len(sent) < 3:
        sent += (await call.read()).delta.text
    await killed(world)
    async with fails(grpc.StatusCode.UNAVAILABLE, "the engine"):
        await rest(call)
    assert int(dict(await call.trailing_metadata())["retry-after-ms"]) >= 1000
    (closed,) = world.events("exchanges", "response_served")
    served = closed.response_served
    assert served.finish_reason == common_pb2.FINISH_REASON_LOST and served.text == sent
    assert len(served.response_token_ids) == len(served.logprobs) == 3
    await put_back(world)


async def test_who_asks_meanwhile_hears_when_to_try_again(world: World) -> None:
    await killed(world)
    call = world.chats.Chat(request(), metadata=ALICE)
    async with fails(grpc.StatusCode.UNAVAILABLE, "is being restarted", "try again in about"):
        await read(call)
    assert int(dict(await call.trailing_metadata())["retry-after-ms"]) >= 1000
    draw = sampler_pb2.DrawRequest(adapter="live", n=1, prompts=[sampler_pb2.Prompt(token_ids=[1])])
    async with fails(grpc.StatusCode.UNAVAILABLE, "is being restarted"):
        await rest(world.samples.Draw(draw))
    async with fails(grpc.StatusCode.UNAVAILABLE, "is being restarted"):
        await world.policies.RollBackPolicy(policy_pb2.RollBackPolicyRequest())
    assert world.counts()["exchanges"] == 0
    await put_back(world)


async def test_votes_and_the_operators_view_go_on_without_an_engine(world: World) -> None:
    answered = await world.chat()
    await killed(world)
    thumb = feedback_pb2.Thumb(response_id=answered.ids[0], up=True)
    assert (await world.give(answered.started.feedback_ticket, thumb=thumb)).feedback_id
    status = await world.admin.GetStatus(admin_pb2.GetStatusRequest())
    assert status.live == "policy-v0" and not status.engine_available
    await put_back(world)
    status = await world.admin.GetStatus(admin_pb2.GetStatusRequest())
    assert status.engine_available and status.engine_restarts == 1


async def test_the_live_version_answers_again_proved_anew(world: World) -> None:
    first, second = await live(world, 0.5), await live(world, 0.7)
    before = (await world.chat("same", request_id="before")).texts.values()
    await killed(world)
    await put_back(world)
    after = await world.chat("same", request_id="after")
    assert after.started.answers[0].policy_version == second
    assert list(after.texts.values()) == list(before)
    assert {a.version for a in world.engine.resident.values()} == {first, second}  # live and last good
    back = await world.policies.RollBackPolicy(policy_pb2.RollBackPolicyRequest())
    assert back.live.policy_version == first


async def test_a_version_that_fails_its_checks_after_the_restart_gives_way_to_the_last_good(
    world: World,
) -> None:
    first, second = await live(world, 0.5), await live(world, 0.7)
    digest = world.server.desk.table.standing(second).digest
    await killed(world)
    world.engine.spoil_digest = digest
    await put_back(world)
    assert world.server.desk.table.live.version == first
    assert "identity" in world.server.desk.table.standing(second).reason
    assert (await world.chat()).started.answers[0].policy_version == first


async def test_a_death_in_the_middle_of_a_swap_says_nothing_about_the_version(world: World) -> None:
    world.engine.startable.clear()
    world.engine.die_in = "score"
    version = publish(world.registry, 0.5)
    await until_async(lambda: not world.server.available.now, 5)
    assert world.server.desk.table.standing(version.name).state == policy_pb2.POLICY_STATE_CANDIDATE
    await put_back(world)
    await until_async(lambda: world.server.desk.table.live.version == version.name)


async def test_an_engine_that_dies_again_and_again_ends_serving_with_the_remedy(world: World) -> None:
    serve = asyncio.create_task(world.server.serve(asyncio.Event()))
    for _ in range(MAX_TRIES):
        await killed(world)
        await put_back(world)
    world.engine.die()
    with pytest.raises(Unavailable, match=f"died {MAX_TRIES + 1} times .* restart serving"):
        await asyncio.wait_for(serve, 5)


async def test_a_start_that_fails_is_tried_again(world: World) -> None:
    world.engine.fail["start"] = Unavailable("scripted: no memory")
    await killed(world)
    await put_back(world)
    assert world.engine.starts == 3 and (await world.chat()).ids


async def test_deaths_far_apart_do_not_add_up(world: World) -> None:
    """Each life of 61 s clears the count: five deaths, and the keeper goes on."""
    now, health_said = [0.0], []

    async def said(serving: bool) -> None:
        health_said.append(serving)

    keeper = Keeper(world.engine, world.server.desk, Availability(), said, clock=lambda: now[0])
    world.server._tasks[-1].cancel()  # the server's own keeper rests
    watching = asyncio.create_task(keeper.watch())
    for death in range(1, 6):
        await asyncio.sleep(0)
        now[0] += 61
        world.engine.die()
        await until_async(lambda n=death: health_said == [False, True] * n, 3)
    assert keeper.available.restarts == 5 and not watching.done()
    watching.cancel()


def test_the_hint_is_what_is_left_and_never_less_than_a_second() -> None:
    now = [0.0]
    available = Availability(clock=lambda: now[0])
    available.check()
    available.down("down", seconds=40)
    now[0] = 15.0
    with pytest.raises(Unavailable, match="about 25 s") as early:
        available.check()
    now[0] = 50.0
    with pytest.raises(Unavailable, match="about 1 s") as late:
        available.check()
    assert (early.value.retry_ms, late.value.retry_ms) == (25_000, 1_000)

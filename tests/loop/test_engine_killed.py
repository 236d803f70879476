"""kill -9 of vLLM's process under a running server: NOT_SERVING at once, then the same versions answer again, proved anew."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from heliotrope.chat import ChatFormat
from heliotrope.registry import Registry
from heliotrope.v1 import admin_pb2, common_pb2, policy_pb2
from serving.build import build
from serving.engine_vllm import VllmEngine
from tests.loop.real_adapters import Trainer, noise, stage
from tests.serving.running import ALICE, World, fails, read, request, rest, settings
from tests.waiting import until_async

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

TEXTS = [random.Random(seed).choices(range(100, 40_000), k=32) for seed in range(16)]
LONG = common_pb2.Sampling(temperature=1.0, max_tokens=200)
GREEDY = common_pb2.Sampling(temperature=0.0, max_tokens=12)


def publish(state: Path, model_dir: Path) -> None:
    """policy-v1: noise, with the trainer's record of it, for the base model in service."""
    registry, trainer = Registry(state / "registry"), Trainer(model_dir)
    base = ChatFormat.load(model_dir).envelope.base_digest
    tensors = noise(model_dir, 1, strength=0.02)
    shadow = registry.publish_shadow(stage(tensors))
    write = stage(tensors, trainer.record(shadow.path, TEXTS, start=16))
    registry.publish(lambda folder: write(folder).model_copy(update={"passed": True, "base_digest": base}))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> AsyncIterator[World]:
    state = tmp_path_factory.mktemp("killed") / "state"
    publish(state, model_dir)
    config = settings(state, "engine.dtype=float32")
    server = build(config)
    try:
        await server.start()
        async with (
            grpc.aio.insecure_channel(config.serving.public_address) as public,
            grpc.aio.insecure_channel(config.serving.private_address) as private,
        ):
            yield World(config, server.engine, server, public, private)  # pyright: ignore[reportArgumentType]
        await server.drain()
    finally:
        await server.close()


def core(world: World) -> int:
    """The process id of vLLM's core."""
    engine = world.server.engine
    assert isinstance(engine, VllmEngine)
    (process,) = engine._llm.engine_core.resources.engine_manager.processes
    return process.pid


async def health(world: World) -> int:
    return (
        await health_pb2_grpc.HealthStub(world.public).Check(health_pb2.HealthCheckRequest(), timeout=5)
    ).status


async def greedy(world: World) -> list[str]:
    answered = await world.chat("Name a colour.", sampling=GREEDY)
    assert answered.started.answers[0].policy_version == "policy-v1"
    return list(answered.texts.values())


async def test_a_killed_engine_is_put_back_with_the_live_version(world: World) -> None:
    before, first = await greedy(world), core(world)
    calls = [
        world.chats.Chat(request("Tell me a long story.", sampling=LONG), metadata=ALICE) for _ in range(4)
    ]
    for call in calls:
        while not (await call.read()).HasField("delta"):
            pass
    os.kill(first, signal.SIGKILL)
    killed = time.monotonic()
    await until_async(lambda: not world.server.available.now, 1)
    assert await health(world) == health_pb2.HealthCheckResponse.NOT_SERVING
    assert time.monotonic() - killed < 1, "health answers at once, and the loop is not blocked by the restart"
    for call in calls:
        async with fails(grpc.StatusCode.UNAVAILABLE, "engine"):
            await rest(call)
    refused = world.chats.Chat(request(), metadata=ALICE)
    async with fails(grpc.StatusCode.UNAVAILABLE, "is being restarted"):
        await read(refused)
    assert int(dict(await refused.trailing_metadata())["retry-after-ms"]) >= 1000

    slowest = 0.0
    while not world.server.available.now:
        asked = time.monotonic()
        await world.admin.GetStatus(admin_pb2.GetStatusRequest(), timeout=30)
        slowest = max(slowest, time.monotonic() - asked)
        assert asked - killed < 200
        await asyncio.sleep(0.2)
    print(f"\nback after {time.monotonic() - killed:.1f} s, slowest status {slowest:.2f} s")
    assert await health(world) == health_pb2.HealthCheckResponse.SERVING
    assert core(world) != first and not Path(f"/proc/{first}").exists()
    assert await greedy(world) == before


async def test_what_was_cut_off_is_lost_with_its_tokens(world: World) -> None:
    served = [e.response_served for e in world.events("exchanges", "response_served")]
    lost = [s for s in served if s.finish_reason == common_pb2.FINISH_REASON_LOST]
    assert len(lost) == 4
    assert all(s.text and len(s.response_token_ids) == len(s.logprobs) > 0 for s in lost)


async def test_a_kill_in_the_middle_of_a_swap_leaves_the_version_a_candidate_and_ends(
    world: World, model_dir: Path
) -> None:
    """The call to vLLM that the dead core took along must not hang the desk."""
    await world.policies.RollBackPolicy(policy_pb2.RollBackPolicyRequest())
    promoting = asyncio.create_task(
        world.server.desk.promote("policy-v1", force=True, reason="a test of a death in the middle")
    )
    engine = world.server.engine
    assert isinstance(engine, VllmEngine)
    await until_async(lambda: bool(world.server.swapper.residents()), 20)
    os.kill(core(world), signal.SIGKILL)
    results = await asyncio.wait_for(asyncio.gather(promoting, return_exceptions=True), 20)
    assert getattr(results[0], "code", "") == "UNAVAILABLE"
    await until_async(lambda: world.server.available.now and world.server.available.restarts == 2, 150)
    assert world.server.desk.table.standing("policy-v1").state == policy_pb2.POLICY_STATE_ROLLED_BACK
    assert (await world.chat()).started.answers[0].policy_version == "policy-v0"

"""Samples for the learner over a real socket: base, live, versions and shadows, below the people who wait."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import grpc
import pytest

from heliotrope.v1 import common_pb2, sampler_pb2
from serving.engine import Adapter
from serving.sample_gate import allowed
from tests.heliotrope.small_adapters import stage
from tests.serving.running import ALICE, BASE_DIGEST, World, fails, request, rest, running
from tests.serving.scripted_engine import logprob
from tests.waiting import until_async


@pytest.fixture
async def world(tmp_path: Path):
    async with running(tmp_path / "state", "serving.sampler_streams=8", "rollout.mode=manual") as world:
        yield world


def draw(adapter: str = "base", prompts: int = 3, n: int = 2) -> sampler_pb2.DrawRequest:
    return sampler_pb2.DrawRequest(
        adapter=adapter, n=n, prompts=[sampler_pb2.Prompt(token_ids=[10 + i, 20]) for i in range(prompts)]
    )


def publish_shadow(world: World, fill: float = 0.3, base: str = BASE_DIGEST) -> str:
    def write(folder: Path):
        manifest = stage(fill=fill)(folder)
        digest = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
        adapter = Adapter("", digest, folder)
        texts = [[k, k + 1, *range(20, 36)] for k in range(16)]
        items = [
            {"token_ids": t, "start": 2, "own": [logprob(i, adapter) for i in t[2:]],
             "parent": [logprob(i, None) for i in t[2:]], "base": [logprob(i, None) for i in t[2:]]}
            for t in texts
        ]  # fmt: skip
        (folder / "behaviour.json").write_text(json.dumps({"items": items}))
        return manifest.model_copy(update={"base_digest": base})

    return world.registry.publish_shadow(write).digest


async def test_every_prompt_gets_n_samples_with_ids_logprobs_and_weights(world: World) -> None:
    drawn = await rest(world.samples.Draw(draw()))
    assert sorted((d.prompt_index, d.sample_index) for d in drawn) == [
        (i, k) for i in range(3) for k in range(2)
    ]
    for d in drawn:
        assert list(d.prompt_token_ids) == [10 + d.prompt_index, 20]
        assert list(d.logprobs) == pytest.approx([logprob(t, None) for t in d.token_ids])
        assert len(d.text) == 8 and d.finish_reason == common_pb2.FINISH_REASON_STOP
        assert (d.adapter.policy_version, d.adapter.digest) == ("policy-v0", "")
    assert world.counts() == {"exchanges": 0, "feedback": 0, "policy": 0}  # samples are nobody's exchange


async def test_messages_are_rendered_as_a_chat_would_be(world: World) -> None:
    await world.chat("hi")
    prompt = sampler_pb2.Prompt(messages=[common_pb2.Message(role=common_pb2.ROLE_USER, content="hi")])
    (drawn,) = await rest(world.samples.Draw(sampler_pb2.DrawRequest(adapter="live", prompts=[prompt], n=1)))
    assert tuple(drawn.prompt_token_ids) == world.engine.calls[0].prompt_ids


async def test_a_shadow_is_loaded_on_demand_never_listed_and_released(world: World) -> None:
    digest = publish_shadow(world)
    drawn = await rest(world.samples.Draw(draw(f"shadow:{digest}")))
    assert {d.adapter.digest for d in drawn} == {digest}
    assert {c.adapter.digest for c in world.engine.calls if c.adapter} == {digest}
    assert [str(r) for r in world.server.swapper.residents().values()] == ["shadow"]
    assert list(world.server.desk.table.standings) == ["policy-v0"]
    for _ in range(2):  # idempotent
        await world.samples.ReleaseShadow(sampler_pb2.ReleaseShadowRequest(digest=digest))
    assert not (world.registry.shadows / digest).exists()
    async with fails(grpc.StatusCode.NOT_FOUND, digest):
        await rest(world.samples.Draw(draw(f"shadow:{digest}")))


async def test_a_second_shadow_takes_the_seat_of_the_first(world: World) -> None:
    one, two = publish_shadow(world, 0.3), publish_shadow(world, 0.4)
    for digest in (one, two, one):
        assert {d.adapter.digest for d in await rest(world.samples.Draw(draw(f"shadow:{digest}")))} == {
            digest
        }
    assert len(world.server.swapper.residents()) == 1


async def test_a_shadow_that_fails_its_checks_is_refused(world: World) -> None:
    digest = publish_shadow(world)
    world.engine.spoil.add("model.layers.0.self_attn.q_proj.lora_A")
    async with fails(grpc.StatusCode.FAILED_PRECONDITION, "identity", "lora_A"):
        await rest(world.samples.Draw(draw(f"shadow:{digest}")))
    assert world.server.swapper.residents() == {}
    foreign = publish_shadow(world, 0.9, base="e" * 64)
    async with fails(grpc.StatusCode.FAILED_PRECONDITION, "eeee"):
        await rest(world.samples.Draw(draw(f"shadow:{foreign}")))


@pytest.mark.parametrize(
    "streams, people, samples",
    [(48, 0, 48), (48, 8, 32), (48, 16, 16), (48, 22, 4), (48, 60, 4), (2, 0, 2), (2, 9, 2)],
)
def test_each_person_takes_the_room_of_two_samples_down_to_a_floor_of_four(
    streams: int, people: int, samples: int
):
    assert allowed(streams, people) == samples


async def test_samples_make_room_for_people_and_take_it_back(world: World) -> None:
    world.engine.hold()
    call = world.chats.Chat(request(), metadata=ALICE)
    assert (await call.read()).HasField("started")
    drawing = world.samples.Draw(draw(prompts=20, n=1))
    await until_async(lambda: world.engine.running == 7)  # the person, and 8 − 2 samples
    assert world.server.services.sampler.samples.gate.inside == 6
    world.engine.release()
    assert (await rest(call))[-1].HasField("finished")
    assert len(await rest(drawing)) == 20
    assert world.server.services.sampler.samples.gate.inside == 0


async def test_a_cancelled_draw_leaves_nothing_running(world: World) -> None:
    world.engine.hold(after=1)
    call = world.samples.Draw(draw(prompts=20))
    await until_async(lambda: world.engine.running == 8)
    call.cancel()
    await until_async(lambda: world.engine.running == 0, seconds=1.0)
    gate = world.server.services.sampler.samples.gate
    await until_async(lambda: gate.inside == 0 and world.server.swapper.table.in_flight(None) == 0)


async def test_an_engine_failure_ends_the_draw_with_its_reason(world: World) -> None:
    world.engine.hold(after=1)
    call = world.samples.Draw(draw(prompts=20))
    await until_async(lambda: world.engine.running == 8)
    world.engine.die()
    async with fails(grpc.StatusCode.UNAVAILABLE, "has died", "try again"):
        await rest(call)

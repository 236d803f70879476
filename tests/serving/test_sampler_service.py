"""Samples for the learner over a real socket: base, live, versions and shadows, below the people who wait."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from benchmarks.scripted_engine import logprob
from heliotrope.v1 import common_pb2, sampler_pb2
from serving.engine import Adapter
from serving.sample_gate import SampleGate, allowed
from tests.heliotrope.small_adapters import stage
from tests.serving.running import ALICE, BASE_DIGEST, World, fails, refusal, request, rest, running
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
    [(48, 0, 48), (48, 1, 3), (48, 23, 3), (48, 24, 1), (48, 60, 1), (2, 0, 2), (2, 1, 1)],
)
def test_all_seats_without_people_a_few_beside_them_one_when_many_come(
    streams: int, people: int, samples: int
):
    """Half of 48 seats is 24: from there on one sample only; never more than there are seats."""
    assert allowed(streams, 3, people) == samples


async def test_samples_make_room_for_people_and_take_it_back(world: World) -> None:
    world.engine.hold()
    call = world.chats.Chat(request(), metadata=ALICE)
    assert (await call.read()).HasField("started")
    drawing = world.samples.Draw(draw(prompts=20, n=1))
    await until_async(lambda: world.engine.running == 3)  # the person, and two samples beside
    assert world.server.services.sampler.samples.gate.inside == 2
    world.engine.release()
    assert (await rest(call))[-1].HasField("finished")
    assert len(await rest(drawing)) == 20
    assert world.server.services.sampler.samples.gate.inside == 0


async def test_samples_enter_by_the_tokens_that_a_person_would_wait_behind() -> None:
    """256 at once: two of 100 enter, the third of 100 does not; one of 900 enters when nothing else does."""
    gate = SampleGate(streams=48, beside=2, people=lambda: 0)
    async with gate.seat(100) as first, gate.seat(100):
        third = asyncio.create_task(gate.seat(100).__aenter__())
        await asyncio.sleep(0)
        assert gate.inside == 2
        gate.warmed(first)
        await asyncio.sleep(0)
        assert gate.inside == 3
    third.cancel()
    fresh = SampleGate(streams=48, beside=2, people=lambda: 0)
    async with fresh.seat(900):
        assert fresh.inside == 1


async def test_for_a_moment_after_the_last_answer_samples_hold_back() -> None:
    people = [1]
    gate = SampleGate(streams=8, beside=1, people=lambda: people[0], linger=0.05)
    async with AsyncExitStack() as seats:
        await seats.enter_async_context(gate.seat(1))
        waiting = asyncio.create_task(seats.enter_async_context(gate.seat(1)))
        people[0] = 0
        gate.poke()
        assert gate.inside == 1
        await asyncio.wait_for(waiting, 2)
        assert gate.inside == 2


def whole_text(prompt_ids: Sequence[int]) -> list[int]:
    """Twelve tokens that follow from the prompt alone."""
    return [97 + (sum(prompt_ids) * k) % 26 for k in range(1, 13)]


async def test_samples_are_called_back_when_people_come_and_go_on_from_where_they_were(world: World) -> None:
    """Eight samples are three tokens in; a person comes; six give way at their next token and end the same text."""
    world.engine.script = lambda ids, adapter, name: whole_text(ids[:2])[len(ids) - 2 :]
    alone = {d.prompt_index: d for d in await rest(world.samples.Draw(draw(prompts=8, n=1)))}
    world.engine.calls.clear()
    world.engine.hold(after=3)
    drawing = world.samples.Draw(draw(prompts=8, n=1))
    await until_async(lambda: world.engine.running == 8)
    call = world.chats.Chat(request(), metadata=ALICE)
    assert (await call.read()).HasField("started")
    world.engine.release()
    drawn = {d.prompt_index: d for d in await rest(drawing)}
    assert (await rest(call))[-1].HasField("finished")
    again = [c for c in world.engine.calls if c.request_id.startswith("sample") and len(c.prompt_ids) > 2]
    assert len(again) == 6
    assert all(c.sampling.max_tokens == 256 - (len(c.prompt_ids) - 2) for c in again)
    assert {i: list(d.token_ids) for i, d in drawn.items()} == {
        i: list(d.token_ids) for i, d in alone.items()
    }
    assert all(list(d.logprobs) == list(alone[i].logprobs) for i, d in drawn.items())


async def test_a_cancelled_draw_leaves_nothing_running(world: World) -> None:
    world.engine.hold(after=1)
    call = world.samples.Draw(draw(prompts=20))
    await until_async(lambda: world.engine.running == 8)
    call.cancel()
    await until_async(lambda: world.engine.running == 0, seconds=1.0)
    gate = world.server.services.sampler.samples.gate
    await until_async(lambda: gate.inside == 0)
    assert world.server.swapper.table.in_flight(None) == 0


async def test_an_engine_failure_ends_the_draw_with_its_reason(world: World) -> None:
    world.engine.hold(after=1)
    call = world.samples.Draw(draw(prompts=20))
    await until_async(lambda: world.engine.running == 8)
    world.engine.die()
    status, message = await refusal(rest(call))
    assert status == grpc.StatusCode.UNAVAILABLE and "has died" in message


async def test_serving_counts_the_people_it_answers_and_not_the_samples(world: World) -> None:
    world.engine.hold(after=1)
    drawing = asyncio.ensure_future(rest(world.samples.Draw(draw(n=1))))
    call = world.chats.Chat(request(), metadata=ALICE)
    await call.read()
    gate = world.server.services.sampler.samples.gate
    await until_async(lambda: gate.inside > 0)
    counted = await world.samples.CountPeople(sampler_pb2.CountPeopleRequest())
    world.engine.release()
    await rest(call)
    await drawing
    none = await world.samples.CountPeople(sampler_pb2.CountPeopleRequest())
    assert (counted.answers, none.answers) == (1, 0)

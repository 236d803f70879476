"""Hot swap on a scripted engine and a real registry: whole before or whole after, and never stuck."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.scripted_engine import ScriptedEngine
from heliotrope.errors import NotFound, Unavailable
from heliotrope.registry import PolicyVersion
from serving.behaviour import Record, check_behaviour, read_record
from serving.engine import EngineError, Piece
from serving.pace import Pace
from serving.slots import Role, adapter_of
from serving.swap import SwapError, Swapper
from tests.serving.swap_world import LIMITS, World, until


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_swap_routes_new_responses_and_lets_old_ones_end_as_they_began(world: World) -> None:
    v1, v2 = adapter_of(world.publish(0.1)), adapter_of(world.publish(0.2))
    await world.swapper.make_live(1)
    alone: list[Piece] = []
    await world.answer(v1, alone)

    world.engine.hold(after=3)
    running: list[Piece] = []
    old = asyncio.create_task(world.answer(world.swapper.live, running))
    await until(lambda: len(running) == 3)
    swapped = await world.swapper.make_live(2)
    assert (swapped.previous, swapped.current, swapped.in_flight) == (v1, v2, 1)
    assert world.swapper.live == v2
    world.engine.release()
    await old
    assert running == alone
    assert world.swapper.residents() == {"policy-v1": Role.LAST_GOOD, "policy-v2": Role.LIVE}


async def test_the_third_version_drains_the_first_and_frees_its_slot(world: World) -> None:
    for fill in (0.1, 0.2, 0.3):
        world.publish(fill)
    for version in (1, 2, 3):
        await world.swapper.make_live(version)
    await until(lambda: "policy-v1" not in world.swapper.residents())
    assert world.swapper.residents() == {"policy-v2": Role.LAST_GOOD, "policy-v3": Role.LIVE}
    assert sorted(a.version for a in world.engine.resident.values()) == ["policy-v2", "policy-v3"]


async def test_a_version_is_unloaded_only_after_its_last_response(world: World) -> None:
    v1 = adapter_of(world.publish(0.1))
    await world.swapper.make_live(1)
    with world.swapper.using(v1):
        await world.swapper.make_live(0)
        assert world.swapper.live is None
        for _ in range(20):
            await asyncio.sleep(0)
        assert v1.name in world.engine.resident
    await until(lambda: v1.name not in world.engine.resident)


async def test_rollback_to_the_last_good_version_loads_nothing(world: World) -> None:
    v1 = adapter_of(world.publish(0.1))
    world.publish(0.2)
    await world.swapper.make_live(1)
    await world.swapper.make_live(2)
    world.engine.fail["load"] = EngineError("nothing may be loaded now")
    await world.swapper.make_live(1)
    assert world.swapper.live == v1
    await until(lambda: world.swapper.residents() == {"policy-v1": Role.LIVE})
    assert "load" in world.engine.fail


async def test_a_version_called_back_while_it_drains_stays(world: World) -> None:
    v1 = adapter_of(world.publish(0.1))
    await world.swapper.make_live(1)
    with world.swapper.using(v1):
        await world.swapper.make_live(0)
        await world.swapper.make_live(1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.swapper.residents() == {"policy-v1": Role.LIVE}
    assert v1.name in world.engine.resident


@pytest.mark.parametrize("step", ["load", "identity", "identity lost", "behaviour", "record"])
async def test_a_failure_at_any_step_leaves_the_old_version_serving(world: World, step: str) -> None:
    v1 = adapter_of(world.publish(0.1))
    await world.swapper.make_live(1)
    world.publish(0.2, bent=0.01 if step == "record" else 0.0)
    name = "model.layers.0.self_attn.q_proj.lora_A"
    if step == "load":
        world.engine.fail["load"] = EngineError("no memory")
    elif step == "identity":
        world.engine.spoil.add(name)
    elif step == "identity lost":
        world.engine.fail["slot_hashes"] = EngineError("worker gone")
    elif step == "behaviour":
        world.engine.shift = -0.002  # over the 0.001 allowed in float32
    with pytest.raises(SwapError, match="policy-v2 is not taken, it failed at") as caught:
        await world.swapper.make_live(2)
    assert caught.value.step == {"identity lost": "identity", "record": "behaviour"}.get(step, step)
    assert world.swapper.live == v1
    assert world.swapper.residents() == {"policy-v1": Role.LIVE}
    assert list(world.engine.resident) == [v1.name]
    out: list[Piece] = []
    await world.answer(world.swapper.live, out)
    assert out[-1].finish == "stop"
    world.engine.spoil.clear()
    world.engine.shift = 0.0
    if step != "record":
        assert (await world.swapper.make_live(2)).previous == v1


async def test_a_tampered_or_torn_version_fails_at_verify(world: World) -> None:
    bad, torn = world.publish(0.1), world.publish(0.2)
    (bad.path / "adapter_model.safetensors").write_bytes(b"x")
    (torn.path / "READY").unlink()
    for version in (1, 2):
        with pytest.raises(SwapError, match="failed at verify"):
            await world.swapper.make_live(version)
    with pytest.raises(NotFound, match="policy-v9"):
        await world.swapper.make_live(9)
    assert world.swapper.live is None and world.swapper.residents() == {}


async def test_a_full_table_queues_the_swap_and_never_a_request(world: World) -> None:
    world.swapper = Swapper(world.engine, world.registry, slots=2, limits=LIMITS)
    versions = [adapter_of(world.publish(fill)) for fill in (0.1, 0.2, 0.3)]
    await world.swapper.make_live(1)
    await world.swapper.make_live(2)
    with world.swapper.using(versions[0]):
        swap = asyncio.create_task(world.swapper.make_live(3))
        await until(lambda: world.swapper._swapping.locked())
        assert not swap.done()
        out: list[Piece] = []
        await world.answer(world.swapper.live, out)
        assert out[-1].finish == "stop"
        await world.swapper.make_live(0)  # makes room: policy-v2 drains
    assert (await swap).current == versions[2]


async def test_shadows_take_turns_in_one_seat(world: World) -> None:
    one, two = (world.publish(fill) for fill in (0.1, 0.2))
    order: list[str] = []

    async def sample(version: PolicyVersion, gate: asyncio.Event) -> None:
        with world.swapper.using(await world.swapper.ensure_at_leisure(version)) as adapter:
            order.append(f"in {adapter.version}")
            await gate.wait()
            order.append(f"out {adapter.version}")

    gates = [asyncio.Event(), asyncio.Event()]
    tasks = [asyncio.create_task(sample(v, g)) for v, g in zip((one, two), gates, strict=True)]
    await until(lambda: bool(order))
    gates[1].set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert order == ["in policy-v1"]
    gates[0].set()
    await asyncio.gather(*tasks)
    assert order == ["in policy-v1", "out policy-v1", "in policy-v2", "out policy-v2"]
    assert world.swapper.residents() == {"policy-v2": Role.SHADOW}
    assert list(world.engine.resident) == [adapter_of(two).name]


async def test_sampling_the_live_version_uses_its_own_slot(world: World) -> None:
    version = world.publish(0.1)
    await world.swapper.make_live(1)
    with world.swapper.using(await world.swapper.ensure_at_leisure(version)) as adapter:
        assert adapter == world.swapper.live
        assert world.swapper.residents() == {"policy-v1": Role.LIVE}


async def test_a_shadow_that_passes_goes_live_without_a_second_load(world: World) -> None:
    version = world.publish(0.1)
    await world.swapper.ensure(version)
    world.engine.fail["load"] = EngineError("nothing may be loaded now")
    await world.swapper.make_live(1)
    assert world.swapper.residents() == {"policy-v1": Role.LIVE}


async def test_a_version_made_of_the_shadows_files_goes_live_without_another_load(world: World) -> None:
    shadow = await world.swapper.ensure(world.publish(0.1, shadow=True))
    world.publish(0.1)
    world.engine.fail["load"] = EngineError("nothing may be loaded now")
    await world.swapper.make_live(1)
    live = world.swapper.live
    assert live is not None and (live.version, live.name) == ("policy-v1", shadow.name)
    assert world.swapper.residents() == {"policy-v1": Role.LIVE}
    out: list[Piece] = []
    await world.answer(live, out)
    assert out[-1].finish == "stop"
    assert await world.swapper.ensure(world.publish(0.1, shadow=True)) == live, "the weights are there"
    del world.engine.fail["load"]
    await world.swapper.make_live(0)
    await until(lambda: world.engine.resident == {})


async def test_samples_of_a_shadow_that_went_live_end_where_they_began(world: World) -> None:
    shadow = await world.swapper.ensure(world.publish(0.1, shadow=True))
    world.publish(0.1)
    with world.swapper.using(shadow):
        await world.swapper.make_live(1)
        assert world.swapper.table.in_flight(world.swapper.live) == 1
        await world.swapper.make_live(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert shadow.name in world.engine.resident
    await until(lambda: world.engine.resident == {})


async def test_a_shadow_with_another_record_is_not_the_version(world: World) -> None:
    await world.swapper.ensure(world.publish(0.1, shadow=True))
    version = world.publish(0.1, bent=1e-5)
    await world.swapper.make_live(1)
    assert world.swapper.live == adapter_of(version)
    assert sorted(world.engine.resident) == [
        "policy-v1-" + version.digest[:12],
        "shadow-" + version.digest[:12] + "-" + version.digest[:12],
    ]


async def test_a_name_that_is_used_again_is_refused(world: World) -> None:
    registered = world.publish(0.1).digest
    for file in world.publish(0.2).path.iterdir():
        (world.registry.policies / "policy-v1" / file.name).write_bytes(file.read_bytes())
    manifest = world.registry.policies / "policy-v1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("policy-v2", "policy-v1"))
    (manifest.parent / "READY").write_text(hashlib.sha256(manifest.read_bytes()).hexdigest())
    with pytest.raises(SwapError, match="policy-v1 was registered with .* a number is never used again"):
        await world.swapper.make_live(1, registered)
    assert world.engine.resident == {}
    await world.swapper.make_live(1)  # sealed as it is, only the digest tells


async def test_forced_texts_go_one_by_one_while_somebody_is_answered(world: World) -> None:
    record = Record(read_record(world.publish(0.1).path, LIMITS).items * 4)
    at_once, most = 0, 0

    class Counted(ScriptedEngine):
        async def score(self, token_ids, adapter):
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0)
            at_once -= 1
            return await super().score(token_ids, adapter)

    adapter = adapter_of(world.registry.read(1))
    await check_behaviour(Counted(), adapter, record, LIMITS, world.swapper.pace)
    assert most == len(record.items) == 8
    most = 0
    with world.swapper.using(None):
        await check_behaviour(Counted(), adapter, record, LIMITS, world.swapper.pace)
    assert most == 1


@dataclass(frozen=True)
class Noted(Pace):
    """Notes how long each rest would be, and lets something happen in it."""

    meanwhile: Callable[[], None] = lambda: None
    taken: list[float] = field(default_factory=list)

    async def rest(self, seconds: float) -> None:
        self.taken.append(seconds)
        self.meanwhile()


async def test_people_have_the_engine_between_two_texts(world: World) -> None:
    adapter, pace = adapter_of(world.publish(0.1)), Noted(lambda: True)
    record = read_record(adapter.path, LIMITS)
    await check_behaviour(ScriptedEngine(), adapter, record, LIMITS, pace)
    first, *others = pace.taken
    assert first == 0.0 and len(others) == len(record.items) - 1 and all(took > 0 for took in others)


async def test_an_engine_that_dies_during_a_check_is_not_taken_for_one_that_holds_the_version(
    world: World,
) -> None:
    world.publish(0.1)
    world.swapper.pace = Noted(lambda: True, meanwhile=world.swapper.forget)
    with pytest.raises(SwapError, match="behaviour: the engine is not running or has died"):
        await world.swapper.make_live(1)
    assert world.swapper.live is None and world.swapper.residents() == {}


async def test_only_what_the_learner_samples_from_is_checked_at_leisure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    leisure = []

    async def check(engine, adapter, items, limits, pace) -> None:
        leisure.append(not pace.hurried())

    monkeypatch.setattr("serving.swap.check_behaviour", check)
    with world.swapper.using(await world.swapper.ensure_at_leisure(world.publish(0.1, shadow=True))):
        pass
    world.publish(0.2)
    await world.swapper.ensure(world.registry.read(1))
    world.publish(0.3)
    await world.swapper.make_live(2)
    assert leisure == [True, False, False]


@pytest.mark.parametrize("people", ["make it live", "name it"])
async def test_a_check_at_leisure_hurries_once_somebody_waits_for_the_version(
    people: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, seen = asyncio.Event(), []

    async def check(engine, adapter, items, limits, pace) -> None:
        begun.set()
        seen.append(pace.hurried())
        await until(pace.hurried)

    monkeypatch.setattr("serving.swap.check_behaviour", check)
    version = world.publish(0.1)

    sampling = asyncio.create_task(world.swapper.ensure_at_leisure(version))
    await begun.wait()
    if people == "make it live":
        assert (await world.swapper.make_live(1)).current == await sampling
    else:
        assert await world.swapper.ensure(version) == await sampling
    assert seen == [False]


async def test_canary_ends_or_becomes_live(world: World) -> None:
    v1, v2, v3 = (adapter_of(world.publish(fill)) for fill in (0.1, 0.2, 0.3))
    await world.swapper.make_live(1)
    assert await world.swapper.make_canary(2) == v2
    assert (world.swapper.live, world.swapper.canary) == (v1, v2)
    world.swapper.end_canary()
    assert world.swapper.canary is None
    await until(lambda: world.swapper.residents() == {"policy-v1": Role.LIVE})
    await world.swapper.make_canary(3)
    await world.swapper.make_live(3)
    assert (world.swapper.live, world.swapper.canary) == (v3, None)
    assert world.swapper.residents() == {"policy-v1": Role.LAST_GOOD, "policy-v3": Role.LIVE}


async def test_requests_for_a_version_that_is_not_resident_stop_before_the_engine(world: World) -> None:
    absent = adapter_of(world.publish(0.1))
    with pytest.raises(Unavailable, match="policy-v1 is not in a slot"), world.swapper.using(absent):
        raise AssertionError("never entered")
    assert world.engine.calls == []


async def test_an_adapter_that_cannot_be_unloaded_does_not_stop_later_swaps(world: World) -> None:
    for fill in (0.1, 0.2, 0.3):
        world.publish(fill)
    await world.swapper.make_live(1)
    await world.swapper.make_live(2)
    world.engine.fail["unload"] = EngineError("worker busy")
    await world.swapper.make_live(3)
    await until(lambda: "unload" not in world.engine.fail)
    assert world.swapper.residents()["policy-v1"] is Role.DRAINING
    await world.swapper.make_live(0)
    await until(lambda: list(world.swapper.residents()) == ["policy-v1", "policy-v2"])

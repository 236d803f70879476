"""Rollouts over a real socket with a real registry: auto, manual, refused folders, rolling back, starting again."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import pytest

from heliotrope.errors import LogError
from heliotrope.registry import Registry
from heliotrope.v1 import common_pb2, policy_pb2
from serving.engine import EngineError
from tests.serving.running import ALICE, World, fails, publish, request, rest, running
from tests.waiting import until_async

STATE = policy_pb2.PolicyState
Promote, RollBack = policy_pb2.PromotePolicyRequest, policy_pb2.RollBackPolicyRequest


@pytest.fixture
async def auto(tmp_path: Path):
    async with running(tmp_path / "state") as world:
        yield world


@pytest.fixture
async def manual(tmp_path: Path):
    async with running(tmp_path / "state", "rollout.mode=manual") as world:
        yield world


async def states(world: World) -> dict[str, str]:
    listed = await world.policies.ListPolicies(policy_pb2.ListPoliciesRequest())
    return {
        p.policy_version: STATE.Name(p.state).removeprefix("POLICY_STATE_").lower() for p in listed.policies
    }


async def becomes(world: World, **wanted: str) -> dict[str, str]:
    """Wait until these versions are in these states: `v1="live"`."""
    named = {f"policy-{k}": v for k, v in wanted.items()}

    async def settled() -> dict[str, str] | None:
        now = await states(world)
        return now if named.items() <= now.items() else None

    return await until_async(settled)  # type: ignore[return-value]


async def test_auto_puts_a_passing_version_live_within_a_second_of_ready(auto: World) -> None:
    publish(auto.registry, 0.1)

    async def live() -> bool:
        return (await states(auto)).get("policy-v1") == "live"

    await until_async(live, seconds=1.0)
    answered = await auto.chat()
    assert answered.started.answers[0].policy_version == "policy-v1"
    assert await states(auto) == {"policy-v1": "live", "policy-v0": "retired"}
    changes = [e.policy_state_changed for e in auto.events("policy", "policy_state_changed")]
    assert [(c.epoch, c.to, c.actor) for c in changes] == [
        (1, STATE.POLICY_STATE_CANDIDATE, "auto"),
        (2, STATE.POLICY_STATE_LIVE, "auto"),
    ]
    got = await auto.policies.GetPolicy(policy_pb2.GetPolicyRequest(policy_version="policy-v1"))
    assert got.policy.resident and got.policy.passed and got.policy.parent == "policy-v0"
    assert '"base_digest"' in got.manifest_json


async def test_a_resident_version_asked_for_by_name_is_not_read_from_disk_again(auto: World) -> None:
    publish(auto.registry, 0.1)
    await becomes(auto, v1="live")
    shutil.rmtree(auto.registry.policies / "policy-v1")
    answered = await auto.chat(policy="policy-v1", stub=auto.private_chats)
    assert answered.started.answers[0].policy_version == "policy-v1" and all(answered.texts.values())


async def test_responses_in_flight_finish_on_the_version_they_began_with(auto: World) -> None:
    auto.engine.hold(after=2)
    calls = [auto.chats.Chat(request(), metadata=ALICE) for _ in range(3)]
    for call in calls:
        assert (await call.read()).started.answers[0].policy_version == "policy-v0"
    publish(auto.registry, 0.1)
    await becomes(auto, v1="live")
    assert auto.server.desk.in_flight_at_last_swap == 3
    auto.engine.release()
    for call in calls:
        assert (await rest(call))[-1].HasField("finished")
    served = [e.response_served for e in auto.events("exchanges", "response_served")]
    assert [s.started.adapter.policy_version for s in served] == ["policy-v0"] * 3
    assert [s.finish_reason for s in served] == [common_pb2.FINISH_REASON_STOP] * 3
    assert all(c.adapter is None for c in auto.engine.calls)


async def test_manual_waits_for_an_operator_and_newer_candidates_supersede(manual: World) -> None:
    publish(manual.registry, 0.1)
    await becomes(manual, v1="candidate", v0="live")
    publish(manual.registry, 0.2)
    await becomes(manual, v1="superseded", v2="candidate")
    answered = await manual.policies.PromotePolicy(Promote(policy_version="policy-v2"))
    assert answered.live.policy_version == "policy-v2" and answered.live.state == STATE.POLICY_STATE_LIVE
    assert (await manual.chat()).started.answers[0].policy_version == "policy-v2"


async def test_a_version_that_the_judge_did_not_pass_needs_force_and_a_reason(auto: World) -> None:
    publish(auto.registry, 0.1, passed=False)
    await becomes(auto, v1="rejected", v0="live")
    async with fails(grpc.StatusCode.FAILED_PRECONDITION, "rejected", "force"):
        await auto.policies.PromotePolicy(Promote(policy_version="policy-v1"))
    async with fails(grpc.StatusCode.INVALID_ARGUMENT, "reason"):
        await auto.policies.PromotePolicy(Promote(policy_version="policy-v1", force=True))
    await auto.policies.PromotePolicy(Promote(policy_version="policy-v1", force=True, reason="a drill"))
    assert (await states(auto))["policy-v1"] == "live"


async def test_a_stale_epoch_changes_nothing(manual: World) -> None:
    publish(manual.registry, 0.1)
    await becomes(manual, v1="candidate")
    async with fails(grpc.StatusCode.FAILED_PRECONDITION, "expected_epoch 9", "it is 1"):
        await manual.policies.PromotePolicy(Promote(policy_version="policy-v1", expected_epoch=9))
    await manual.policies.PromotePolicy(Promote(policy_version="policy-v1", expected_epoch=1))
    async with fails(grpc.StatusCode.FAILED_PRECONDITION, "expected_epoch 1", "it is 2"):
        await manual.policies.RollBackPolicy(RollBack(expected_epoch=1))
    assert (await states(manual))["policy-v1"] == "live"


def tear(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def tamper(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")


def add_a_pickle(folder: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(b"\x80")


@pytest.mark.parametrize("harm", [tear, tamper, add_a_pickle])
async def test_a_torn_or_tampered_folder_is_refused_when_it_is_seen(
    auto: World, tmp_path: Path, harm
) -> None:
    version = publish(Registry(tmp_path / "elsewhere"), 0.1)
    harm(version.path)
    auto.registry.policies.mkdir(parents=True)
    version.path.rename(auto.registry.policies / "policy-v1")
    await becomes(auto, v1="failed", v0="live")
    assert (await auto.chat()).started.answers[0].policy_version == "policy-v0"
    async with fails(grpc.StatusCode.FAILED_PRECONDITION, "failed"):
        await auto.policies.PromotePolicy(Promote(policy_version="policy-v1", force=True, reason="try"))


@pytest.mark.parametrize("harm", [tear, tamper, add_a_pickle])
async def test_a_candidate_that_is_harmed_later_is_refused_when_it_is_promoted(manual: World, harm) -> None:
    version = publish(manual.registry, 0.1)
    await becomes(manual, v1="candidate")
    harm(version.path)
    async with fails(grpc.StatusCode.FAILED_PRECONDITION, "policy-v1", "verify"):
        await manual.policies.PromotePolicy(Promote(policy_version="policy-v1"))
    listed = await manual.policies.ListPolicies(policy_pb2.ListPoliciesRequest())
    assert listed.policies[0].state == STATE.POLICY_STATE_FAILED and "verify" in listed.policies[0].reason
    assert (await manual.chat()).started.answers[0].policy_version == "policy-v0"


@pytest.mark.parametrize("step", ["load", "slot_hashes", "score"])
async def test_a_failure_while_loading_leaves_the_old_version_serving(auto: World, step: str) -> None:
    auto.engine.fail[step] = EngineError("scripted failure")
    publish(auto.registry, 0.1)
    await becomes(auto, v1="failed", v0="live")
    assert (await auto.chat()).started.answers[0].policy_version == "policy-v0"
    publish(auto.registry, 0.2)
    await becomes(auto, v1="failed", v2="live")


async def test_a_version_for_another_base_model_is_refused(auto: World) -> None:
    publish(auto.registry, 0.1, base="f" * 64)
    await becomes(auto, v1="failed", v0="live")
    assert "ffff" in auto.server.desk.table.standing("policy-v1").reason


async def test_roll_back_puts_the_last_good_version_back_and_stops_the_harmful_one(auto: World) -> None:
    publish(auto.registry, 0.1)
    await becomes(auto, v1="live")
    publish(auto.registry, 0.2)
    await becomes(auto, v2="live", v1="retired")
    auto.engine.hold(after=2)
    call = auto.chats.Chat(request(), metadata=ALICE)
    assert (await call.read()).started.answers[0].policy_version == "policy-v2"
    back = await auto.policies.RollBackPolicy(RollBack(reason="rude", stop_in_flight=True), timeout=1.0)
    assert back.live.policy_version == "policy-v1"
    ends = [c.answer_finished for c in await rest(call) if c.HasField("answer_finished")]
    assert [e.finish_reason for e in ends] == [common_pb2.FINISH_REASON_CANCELLED]
    assert await states(auto) == {"policy-v2": "rolled_back", "policy-v1": "live", "policy-v0": "retired"}
    await auto.policies.RollBackPolicy(RollBack())
    assert (await states(auto))["policy-v0"] == "live"
    async with fails(grpc.StatusCode.FAILED_PRECONDITION, "rolled_back"):
        await auto.policies.PromotePolicy(Promote(policy_version="policy-v2"))


async def test_roll_back_needs_no_log_and_is_recorded_once_there_is_room(auto: World) -> None:
    publish(auto.registry, 0.1)
    await becomes(auto, v1="live")
    await until_async(lambda: len(auto.events("policy", "policy_state_changed")) == 2)
    journal, before = auto.server.replies.journal, auto.counts()["policy"]
    write = journal.write

    async def full(events):
        raise LogError("the disk is full")

    journal.write = full
    back = await auto.policies.RollBackPolicy(RollBack(), timeout=1.0)
    assert back.live.policy_version == "policy-v0" and auto.counts()["policy"] == before
    journal.write = write
    await until_async(lambda: len(auto.events("policy", "policy_state_changed")) == 4)
    to = [e.policy_state_changed.to for e in auto.events("policy", "policy_state_changed")]
    assert to[2:] == [STATE.POLICY_STATE_ROLLED_BACK, STATE.POLICY_STATE_LIVE]


async def test_a_start_loads_what_was_live_and_seats_the_last_good_version(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as world:
        publish(world.registry, 0.1)
        await becomes(world, v1="live")
        publish(world.registry, 0.2)
        await becomes(world, v2="live")
    async with running(tmp_path / "state") as world:
        assert (await world.chat()).started.answers[0].policy_version == "policy-v2"
        assert {k: str(v) for k, v in world.server.swapper.residents().items()} == {
            "policy-v1": "last_good",
            "policy-v2": "live",
        }
        assert (await world.policies.RollBackPolicy(RollBack())).live.policy_version == "policy-v1"


async def test_a_start_without_the_live_folder_serves_the_last_good_version(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as world:
        publish(world.registry, 0.1)
        await becomes(world, v1="live")
        publish(world.registry, 0.2)
        await becomes(world, v2="live")
        tamper(world.registry.policies / "policy-v2")
    async with running(tmp_path / "state") as world:
        assert await states(world) == {"policy-v2": "failed", "policy-v1": "live", "policy-v0": "retired"}
        tamper(world.registry.policies / "policy-v1")
    async with running(tmp_path / "state") as world:
        assert (await states(world))["policy-v0"] == "live"
        assert (await world.chat()).started.answers[0].policy_version == "policy-v0"


async def test_watchers_see_the_present_and_then_every_change(manual: World) -> None:
    call = manual.policies.WatchPolicies(policy_pb2.WatchPoliciesRequest())
    first = await call.read()
    assert (first.policy.policy_version, first.policy.state, first.epoch) == (
        "policy-v0",
        STATE.POLICY_STATE_LIVE,
        0,
    )
    publish(manual.registry, 0.1)
    seen = await call.read()
    assert (seen.policy.policy_version, seen.policy.state, seen.epoch) == (
        "policy-v1",
        STATE.POLICY_STATE_CANDIDATE,
        1,
    )
    await manual.policies.PromotePolicy(Promote(policy_version="policy-v1"))
    after = {(await call.read()).policy.policy_version for _ in range(2)}
    assert after == {"policy-v0", "policy-v1"}
    call.cancel()

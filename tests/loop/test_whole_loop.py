"""The main job on real parts: people chat and vote over gRPC, the learner makes a version of it, serving swaps it in.

Real vLLM, the real default model, real sockets, real files; the learner runs on a thread instead of a process.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from heliotrope.config import Config
from heliotrope.registry import PolicyVersion, verify
from heliotrope.v1 import chat_pb2, common_pb2, feedback_pb2, policy_pb2, sampler_pb2
from learner.build import build as build_learner
from learner.loop import update
from serving.engine_vllm import VllmEngine
from tests.loop.session_server import serving
from tests.serving.running import World, settings
from tests.waiting import until_async

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

COMPARISONS = 24
LEARNING = [
    'learner.sources=["simulated"]', "learner.nice=0", "learner.held_out=0.2", "lora.first_layer=26",
    "serving.max_tokens=96", "judge.prompts=3", "judge.max_tokens=8", "judge.min_held_out=1", "rollout.mode=manual",
]  # fmt: skip


async def compare(world: World, number: int) -> None:
    """One simulated person asks, gets two answers, and prefers the one with more vowels a letter."""
    who = (("x-heliotrope-user", f"{number:032x}"),)
    asked = await world.chat(
        f"Give me tip number {number} for a good night's sleep.",
        who,
        comparison=chat_pb2.COMPARISON_WISH_ON,
        source=common_pb2.SOURCE_SIMULATED,
        sampling=common_pb2.Sampling(temperature=1.0, max_tokens=10),
    )
    a, b = (sum(c in "aeiou" for c in text) / max(1, len(text)) for text in asked.texts.values())
    choice = feedback_pb2.CHOICE_A if a >= b else feedback_pb2.CHOICE_B
    await world.give(asked.started.feedback_ticket, who, comparison=feedback_pb2.Comparison(choice=choice))


def learn(config: Config) -> PolicyVersion:
    parts = build_learner(config, lambda progress: None)
    try:
        parts.inbox.read()
        return update(parts, parts.inbox.teachings(["Preference"]))
    finally:
        parts.close()


async def test_votes_become_a_version_that_is_swapped_in_while_it_serves(
    engine: VllmEngine, tmp_path: Path
) -> None:
    config = settings(tmp_path, *LEARNING)
    async with serving(config, engine) as world:
        await asyncio.gather(*(compare(world, n) for n in range(COMPARISONS)))
        with ThreadPoolExecutor(1) as learner:
            version = await asyncio.get_running_loop().run_in_executor(learner, learn, config)
        manifest = verify(version.path)
        assert len(manifest.example_ids) > COMPARISONS / 2
        assert manifest.metrics["kl.nats"] == pytest.approx(manifest.verdict["kl"].figures["nats"])

        await known(world, version)
        slow = asyncio.create_task(
            world.chat("Tell me a long story.", sampling=common_pb2.Sampling(max_tokens=96))
        )
        await until_async(lambda: world.server.replies.running, 10)
        promote = policy_pb2.PromotePolicyRequest(policy_version=version.name, force=True, reason="a test")
        promoted = await world.policies.PromotePolicy(promote)
        assert (promoted.live.policy_version, promoted.in_flight_on_previous) == ("policy-v1", 1)
        live = world.server.swapper.live
        assert live is not None and live.name.startswith("shadow-"), "what was judged was not loaded again"
        new = await world.chat("Hello?", sampling=common_pb2.Sampling(max_tokens=4))
        old = await slow
        labels = [answer.started.answers[0].policy_version for answer in (old, new)]
        assert labels == ["policy-v0", "policy-v1"]
        logged = {
            e.response_served.response_id: e.response_served
            for e in world.events("exchanges", "response_served")
        }
        assert logged[new.ids[0]].started.adapter.digest == version.digest
        assert old.ends[old.ids[0]].finish_reason != common_pb2.FINISH_REASON_LOST

        await forced_words_tell_the_versions_apart(world, version)
        began = time.monotonic()
        back = await world.policies.RollBackPolicy(policy_pb2.RollBackPolicyRequest(reason="a test"))
        assert time.monotonic() - began < 1
        assert back.live.policy_version == "policy-v0"


async def known(world: World, version: PolicyVersion) -> None:
    """Serving has seen READY."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        listed = await world.policies.ListPolicies(policy_pb2.ListPoliciesRequest())
        if any(p.policy_version == version.name for p in listed.policies):
            return
    raise AssertionError(f"serving did not see {version.name}")


async def forced_words_tell_the_versions_apart(world: World, version: PolicyVersion) -> None:
    """The same greedy draw through base and through the version: their log-probabilities differ."""
    found = {}
    for adapter in ("base", version.name):
        prompt = sampler_pb2.Prompt(token_ids=[1, 4093, 198, 19556, 2])
        greedy = common_pb2.Sampling(temperature=0, max_tokens=6)
        draw = sampler_pb2.DrawRequest(adapter=adapter, prompts=[prompt], n=1, sampling=greedy)
        found[adapter] = [list(r.logprobs) async for r in world.samples.Draw(draw)]
    assert found["base"] != found[version.name]

"""Nobody leaks into anybody: adapters that force one word each, and base, in one batch of the real engine."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from benchmarks.isolation import adapters, holds, prompts
from benchmarks.isolation_matrix import Matrix, everything, resident
from benchmarks.sentinels import Sentinel, sentinels
from heliotrope.chat import ChatFormat
from heliotrope.registry import Registry
from serving.engine import Adapter
from serving.engine_vllm import VllmEngine
from tests.loop.real_adapters import Trainer, noise, stage

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture(scope="module")
def chat(model_dir: Path) -> ChatFormat:
    return ChatFormat.load(model_dir)


@pytest.fixture(scope="module")
def forced(model_dir: Path, chat: ChatFormat) -> list[Sentinel]:
    return sentinels(model_dir, Trainer(model_dir), chat, 3)


async def test_every_answer_of_a_mixed_batch_is_the_one_given_alone(
    engine: VllmEngine, chat: ChatFormat, forced: list[Sentinel], tmp_path: Path
) -> None:
    published, words = adapters(Registry(tmp_path), forced)
    again = [Adapter(f"policy-v{n}", a.digest, a.path) for n, a in zip(range(11, 14), published, strict=True)]
    words |= {b.name: words[a.name] for a, b in zip(published, again, strict=True)}
    assert engine._llm.vllm_config.cache_config.enable_prefix_caching
    matrix = Matrix(engine, words, prompts(chat), length=4)
    await everything(matrix, [*published, *again], prefixed=(2, 3), whole=False)
    assert {row.scenario: holds("float32", row) for row in matrix.rows} == {
        "1 adapter and base": True,
        "every combination of base and 2": True,
        "prefill beside decode": True,
        "shared prefix, cached and not": True,
        "all slots full": True,
        "versions come and go": True,
    }
    assert max(row.gap for row in matrix.rows) < 1e-3


async def test_a_name_with_other_weights_finds_no_stale_prefix(
    engine: VllmEngine, chat: ChatFormat, model_dir: Path, tmp_path: Path
) -> None:
    """policy-v1 with two contents, one after the other, on a prompt long enough to be cached."""
    registry = Registry(tmp_path)
    found = []
    matrix = Matrix(engine, {}, prompts(chat), length=4)
    for seed in (5, 6):
        shadow = registry.publish_shadow(stage(noise(model_dir, seed, strength=0.02)))
        adapter = Adapter("policy-v1", shadow.digest, shadow.path)
        fresh = Adapter(f"policy-v{seed}", shadow.digest, shadow.path)
        async with resident(engine, [adapter, fresh]):
            reused, wanted = await asyncio.gather(matrix.say((adapter, 2)), matrix.say((fresh, 2)))
        assert reused.tokens == wanted.tokens
        assert reused.logprobs == pytest.approx(wanted.logprobs, abs=1e-3)
        found.append(reused.logprobs)
    assert found[0] != pytest.approx(found[1], abs=1e-2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_the_whole_matrix_in_both_dtypes() -> None:
    command = ["-m", "benchmarks.isolation", "--tokens", "4"]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()

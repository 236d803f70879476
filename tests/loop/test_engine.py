"""The real engine: real vLLM, the real default model in float32, adapters of strong noise. Facts of DESIGN §5."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import torch

from heliotrope.chat import ChatFormat, Message
from heliotrope.errors import InvalidInput
from heliotrope.registry import PolicyVersion, Registry
from serving.behaviour import read_record
from serving.engine import Adapter, EngineError, Finish, Sampling
from serving.engine_vllm import VllmEngine
from serving.slots import adapter_of
from serving.swap import SwapError, Swapper
from serving.vllm_plugin import WRAPPER
from tests.loop.real_adapters import Trainer, noise, stage
from tests.waiting import until_async

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

GREEDY = Sampling(0.0, 12)
TEXTS = [random.Random(seed).choices(range(100, 40_000), k=32) for seed in range(16)]
PROMPTS = [text[:12] for text in TEXTS]


@pytest.fixture(scope="module")
def trainer(model_dir: Path) -> Trainer:
    return Trainer(model_dir)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def versions(registry: Registry, model_dir: Path, trainer: Trainer) -> list[PolicyVersion]:
    """Two sentinels with the trainer's own record of them."""
    made = []
    for seed in (1, 2):
        tensors = noise(model_dir, seed, strength=0.02)
        shadow = registry.publish_shadow(stage(tensors))
        made.append(registry.publish(stage(tensors, trainer.record(shadow.path, TEXTS, start=16))))
    return made


@pytest_asyncio.fixture(loop_scope="session")
async def adapters(engine: VllmEngine, versions: list[PolicyVersion]) -> AsyncIterator[list[Adapter]]:
    """Both sentinels, resident."""
    loaded = [adapter_of(version) for version in versions]
    for adapter in loaded:
        await engine.load(adapter)
    yield loaded
    for adapter in loaded:
        await engine.unload(adapter)


async def answer(
    engine: VllmEngine, ids: list[int], sampling: Sampling, adapter: Adapter | None = None
) -> tuple[list[int], list[float], Finish | None]:
    tokens: list[int] = []
    logprobs: list[float] = []
    finish = None
    async for piece in engine.generate(f"t{random.random()}", ids, sampling, adapter):
        tokens += piece.token_ids
        logprobs += piece.logprobs
        finish = piece.finish
    return tokens, logprobs, finish


def apart(a: list[float], b: list[float]) -> float:
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / len(a)


async def test_our_lora_operations_serve(engine: VllmEngine) -> None:
    assert await engine._rpc("heliotrope_lora_ops") == [[WRAPPER]]


async def test_in_one_batch_each_answers_as_it_does_alone(
    engine: VllmEngine, adapters: list[Adapter]
) -> None:
    cases = [(prompt, adapter) for prompt in PROMPTS[:2] for adapter in (None, *adapters)]
    alone = [await answer(engine, prompt, GREEDY, adapter) for prompt, adapter in cases]
    together = await asyncio.gather(*(answer(engine, prompt, GREEDY, adapter) for prompt, adapter in cases))
    assert [tokens for tokens, _, _ in together] == [tokens for tokens, _, _ in alone]
    assert max(apart(t, a) for (_, t, _), (_, a, _) in zip(together, alone, strict=True)) < 1e-3
    for i in range(0, len(cases), 3):
        sure = {tuple(round(x, 2) for x in alone[i + k][1]) for k in range(3)}
        assert len(sure) == 3, "base and sentinels must differ to prove anything"


async def test_scores_are_the_trainers(
    engine: VllmEngine, adapters: list[Adapter], versions: list[PolicyVersion], trainer: Trainer
) -> None:
    text = TEXTS[0]
    assert apart(await engine.score(text, None), trainer.logprobs(trainer.model, [text])[0]) < 1e-3
    worn = trainer.with_adapter(versions[1].path)
    [reference] = trainer.logprobs(worn, [text])
    worn.unload()  # pyright: ignore[reportCallIssue]
    assert apart(await engine.score(text, adapters[1]), reference) < 1e-3
    assert apart(await engine.score(text, None), reference) > 0.1


async def test_log_probabilities_are_those_after_temperature(engine: VllmEngine, trainer: Trainer) -> None:
    """A token drawn at temperature 0.5 has log softmax(logits / 0.5), not log softmax(logits)."""
    tokens, logprobs, finish = await answer(engine, PROMPTS[0], Sampling(0.5, 24))
    n = len(tokens)
    after = trainer.logprobs(trainer.model, [PROMPTS[0] + tokens], temperature=0.5)[0][-n:]
    before = trainer.logprobs(trainer.model, [PROMPTS[0] + tokens])[0][-n:]
    assert apart(logprobs, after) < 1e-3
    assert apart(logprobs, before) > 0.05
    assert finish == ("length" if n == 24 else "stop")


async def test_the_end_token_comes_with_stop_and_only_then(engine: VllmEngine, model_dir: Path) -> None:
    chat = ChatFormat.load(model_dir)
    prompt = chat.prompt_ids([Message("system", "Be brief."), Message("user", "Reply with one word: hello.")])
    tokens, _, finish = await answer(engine, prompt, Sampling(0.0, 100))
    assert finish == "stop" and tokens[-1] in chat.eos_ids and not set(tokens[:-1]) & chat.eos_ids
    cut, _, finish = await answer(engine, prompt, Sampling(0.0, len(tokens) - 1))
    assert (cut, finish) == (tokens[:-1], "length")


async def test_closing_a_stream_stops_the_work_within_a_second(engine: VllmEngine) -> None:
    stream = engine.generate("left", PROMPTS[0], Sampling(1.0, 900), None)
    await anext(stream)
    await stream.aclose()  # pyright: ignore[reportAttributeAccessIssue]
    await until_async(lambda: engine._llm.get_num_unfinished_requests() == 0, 1)
    tokens, _, _ = await answer(engine, PROMPTS[1], GREEDY)
    assert tokens


async def test_what_does_not_fit_is_refused_and_changes_nothing(
    engine: VllmEngine, versions: list[PolicyVersion]
) -> None:
    with pytest.raises(InvalidInput, match="1000 tokens and max_tokens = 25 exceed the context of 1024"):
        await answer(engine, [100] * 1000, Sampling(1.0, 25))
    with pytest.raises(EngineError, match="policy-v1-.* is not resident"):
        await answer(engine, PROMPTS[0], GREEDY, adapter_of(versions[0]))
    gone = Adapter("policy-v99", "9" * 64, versions[0].path.parent / "policy-v99")
    with pytest.raises(EngineError, match="vLLM does not take policy-v99"):
        await engine.load(gone)
    tokens, _, _ = await answer(engine, PROMPTS[0], GREEDY)
    assert tokens
    await engine.check()


async def test_every_slot_can_be_taken_and_a_seventh_adapter_is_refused(
    engine: VllmEngine, versions: list[PolicyVersion]
) -> None:
    """Under six names the same weights: six residents answer alike, and base is still base."""
    path, digest = versions[0].path, versions[0].digest
    six = [Adapter(f"policy-v{n}", digest, path) for n in range(10, 16)]
    base, _, _ = await answer(engine, PROMPTS[0], GREEDY)
    for adapter in six:
        await engine.load(adapter)
    with pytest.raises(EngineError, match="all 6 adapter slots are taken"):
        await engine.load(Adapter("policy-v16", digest, path))
    seven = await asyncio.gather(*(answer(engine, PROMPTS[0], GREEDY, adapter) for adapter in (None, *six)))
    assert seven[0][0] == base
    assert len({tuple(tokens) for tokens, _, _ in seven[1:]}) == 1 and seven[1][0] != base
    for adapter in six:
        await engine.unload(adapter)


async def test_the_slot_holds_exactly_what_the_file_says(
    engine: VllmEngine, adapters: list[Adapter], registry: Registry, model_dir: Path
) -> None:
    found = await engine.slot_hashes(adapters[0])
    assert found == await engine.file_hashes(adapters[0])
    assert len(found) == 30 * 7 * 2
    assert found != await engine.slot_hashes(adapters[1])
    tensors = noise(model_dir, 1, strength=0.02)
    key = "model.layers.17.mlp.up_proj.lora_B"
    tensors[f"base_model.model.{key}.weight"] = torch.zeros_like(tensors[f"base_model.model.{key}.weight"])
    other = await engine.file_hashes(adapter_of(registry.publish_shadow(stage(tensors))))
    assert {name for name in found if other.get(name) != found[name]} == {key}


async def test_a_swap_under_eight_streams_drops_and_mixes_nothing(
    engine: VllmEngine, registry: Registry, versions: list[PolicyVersion]
) -> None:
    swapper = Swapper(engine, registry)
    long = Sampling(0.0, 32)
    assert (await swapper.make_live(versions[0].number or 0)).current == adapter_of(versions[0])
    alone = await asyncio.gather(*(answer(engine, prompt, long, swapper.live) for prompt in PROMPTS[:8]))

    async def stream(prompt: list[int]) -> tuple[list[int], list[float], Finish | None]:
        with swapper.using(swapper.live) as adapter:
            return await answer(engine, prompt, long, adapter)

    running = [asyncio.create_task(stream(prompt)) for prompt in PROMPTS[:8]]
    await until_async(lambda: swapper.table.in_flight(swapper.live) == 8, 5)
    swapped = await swapper.make_live(versions[1].number or 0)
    assert swapper.live == adapter_of(versions[1])
    assert 0 <= swapped.in_flight <= 8
    assert [tokens for tokens, _, _ in await asyncio.gather(*running)] == [tokens for tokens, _, _ in alone]
    await swapper.make_live(versions[0].number or 0)
    await swapper.make_live(0)
    await until_async(lambda: not swapper.residents(), 5)


async def test_weights_that_are_not_the_recorded_ones_do_not_go_live(
    engine: VllmEngine, registry: Registry, versions: list[PolicyVersion], model_dir: Path
) -> None:
    """The record of sentinel 1 on the weights of a third: every file is sealed, and it speaks otherwise."""
    record = read_record(versions[0].path)
    wrong = registry.publish(stage(noise(model_dir, 3, strength=0.02), record.items))
    swapper = Swapper(engine, registry)
    with pytest.raises(SwapError, match="nats a token away from its trainer's record") as caught:
        await swapper.make_live(wrong.number or 0)
    assert caught.value.step == "behaviour"
    assert swapper.live is None and not swapper.residents() and not engine._residents

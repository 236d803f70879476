"""What every engine promises before a model is asked: room, sampling in range, dtype by hardware."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.scripted_engine import ScriptedEngine
from heliotrope.arithmetic import choose_dtype
from heliotrope.errors import InvalidInput, ModelError, Unavailable
from serving.engine import Adapter, EngineError, Sampling, check_room
from serving.engine_vllm import EngineSettings, VllmEngine


@pytest.mark.parametrize("temperature", [-0.01, 2.01, math.nan, math.inf, "1", None, True])
def test_a_temperature_out_of_range_is_refused_with_its_value(temperature: float) -> None:
    with pytest.raises(InvalidInput, match=f"temperature {temperature!r} is .*between 0 and 2"):
        Sampling(temperature, 8)


@pytest.mark.parametrize("max_tokens", [0, -1, 1.5, True])
def test_max_tokens_is_a_positive_whole_number(max_tokens: int) -> None:
    with pytest.raises(InvalidInput, match=f"max_tokens {max_tokens!r}"):
        Sampling(1.0, max_tokens)


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers_and_the_remedy() -> None:
    check_room([1] * 90, 10, 100)
    with pytest.raises(
        InvalidInput, match=r"90 tokens and max_tokens = 11 exceed .* 100 tokens; .* at most 10"
    ):
        check_room([1] * 90, 11, 100)
    with pytest.raises(InvalidInput, match="0 tokens"):
        check_room([], 11, 100)


def test_a_name_never_stands_for_two_weights() -> None:
    one, two = (Adapter("policy-v1", digest * 32, Path("x")) for digest in ("ab", "cd"))
    assert one.name == "policy-v1-abababababab" != two.name


@pytest.mark.parametrize(
    ("wanted", "cuda", "cpuinfo", "dtype"),
    [
        ("auto", False, "flags: avx2 avx512f", "float32"),
        ("auto", False, "flags: avx512f avx512_bf16", "bfloat16"),
        ("auto", False, "flags: amx_bf16", "bfloat16"),
        ("auto", True, "", "bfloat16"),
        ("float32", True, "flags: amx_bf16", "float32"),
    ],
)
def test_auto_is_bfloat16_only_where_the_hardware_multiplies_it(
    wanted: str, cuda: bool, cpuinfo: str, dtype: str
) -> None:
    assert choose_dtype(wanted, cuda, cpuinfo) == dtype


async def test_a_missing_model_is_named_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="config.json is missing.*make setup"):
        await VllmEngine(EngineSettings(tmp_path, (2,))).start()


async def test_an_engine_that_is_not_running_says_so() -> None:
    engine = VllmEngine(EngineSettings(Path("nowhere"), (2,)))
    with pytest.raises(Unavailable, match="not running or has died.*try again"):
        await engine.check()
    await engine.stop()


async def test_the_scripted_engine_answers_by_adapter_and_aborts_when_closed() -> None:
    engine, adapter = ScriptedEngine(), Adapter("policy-v1", "ab" * 32, Path("x"))
    with pytest.raises(EngineError, match="not resident"):
        await anext(engine.generate("r", [1], Sampling(1.0, 8), adapter))
    await engine.load(adapter)
    words = [
        [p.token_ids[0] async for p in engine.generate("r", [1], Sampling(1.0, 64), a)]
        for a in (None, adapter)
    ]
    assert words[0] != words[1] and words[0][-1] == words[1][-1] == engine.eos
    stream = engine.generate("cut", [1], Sampling(1.0, 64), None)
    await anext(stream)
    await stream.aclose()  # pyright: ignore[reportAttributeAccessIssue]
    assert (engine.aborted, engine.running) == (["cut"], 0)

"""The arithmetic of `benchmarks.serving`; the measurement itself needs real engines and is run by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from benchmarks.serving import arguments, summary
from benchmarks.serving_figures import measure, percentile
from benchmarks.serving_report import AIMS, Aim, aims, ratios, table
from benchmarks.serving_servers import tokens_of


def figures(tok_s: float, first: float = 0.0) -> dict[str, float]:
    return {"tok_s": tok_s, "first_token_p50_ms": first, "first_token_p99_ms": first,
            "inter_token_p50_ms": 1.0, "inter_token_p99_ms": 2.0}  # fmt: skip


def test_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([3.0, 1.0, 2.0, 4.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0, 4.0], 0.99) == 4.0
    assert percentile([], 0.5) == 0.0


async def test_every_stream_is_read_to_its_end_and_its_tokens_are_counted() -> None:
    """Streams of 1 and 2 pieces of 3 tokens: 3 + 6 tokens, a first token each, gaps for the second piece only."""
    asked: list[tuple[int, int]] = []

    async def say(number: int, tokens: int) -> AsyncIterator[int]:
        asked.append((number, tokens))
        for _ in range(number + 1):
            yield 3

    found = await measure(say, 2, 5)
    assert asked == [(0, 5), (1, 5)]
    assert found.tok_s > 0 and 0 < found.first_token_p50_ms <= found.first_token_p99_ms
    assert 0 < found.inter_token_p50_ms <= found.inter_token_p99_ms


def test_ratios_are_taken_within_a_round() -> None:
    """The machine halves its speed between two rounds: 80/100 and 44/50 give a median of 0.84."""
    rounds = {("plugin_lora", 32): [figures(80), figures(44)], ("base", 32): [figures(100), figures(50)]}
    assert ratios(rounds) == {"plugin_lora / base tok_s at 32": pytest.approx(0.84)}


def test_an_aim_says_whether_it_is_met() -> None:
    rounds = {("grpc", 8): [figures(10, 115.0)], ("plugin_lora", 8): [figures(10, 100.0)]}
    told = aims(rounds).splitlines()
    assert [line.split()[-2:] for line in told] == [["0.95", "met"], ["NOT", "met"]]
    assert Aim("a", "b", 1, 10.0, "first_token_p50_ms", difference=True).met(9.0)
    assert len({aim.name for aim in AIMS}) == len(AIMS)


def test_the_json_has_the_keys_that_are_read_elsewhere() -> None:
    rounds = {("plugin_lora", 1): [figures(10, 5.0), figures(20, 7.0)], ("base", 1): [figures(30)]}
    found = summary(rounds)
    assert found["1"]["plugin_lora_tok_s"] == 15.0 and found["1"]["plugin_lora_first_token_p50_ms"] == 6.0
    assert found["1"]["base_tok_s"] == 30
    assert "plugin_lora" in table(found)


def test_tokens_of_a_server_sent_line_are_its_log_probabilities() -> None:
    two = 'data: {"choices": [{"logprobs": {"content": [{"logprob": -1}, {"logprob": -2}]}}]}'
    assert tokens_of(two) == 2
    assert tokens_of('data: {"choices": [{"logprobs": null}]}') == 0
    assert tokens_of('data: {"choices": []}') == 0
    assert tokens_of("data: [DONE]") == tokens_of("") == 0


def test_defaults_measure_every_door_at_three_loads() -> None:
    asked = arguments([])
    assert asked.streams == [1, 8, 32] and len(asked.doors) == 6

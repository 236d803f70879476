"""Inverse transform sampling against the arithmetic of small distributions, and against their frequencies."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from serving.vllm_plugin.sampling import draw, forward


def logs(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows).log()


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 0), (0.49, 0), (0.5, 1), (0.74, 1), (0.75, 2), (0.999, 3)]
)
def test_the_first_word_whose_cumulative_probability_is_above(uniform: float, token: int) -> None:
    """Cumulative: 0.5, 0.75, 0.875, 1."""
    drawn = draw(logs([0.5, 0.25, 0.125, 0.125]), torch.tensor([uniform], dtype=torch.float64))
    assert drawn.tolist() == [token]


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_a_word_without_probability_is_never_drawn(uniform: float) -> None:
    """600 words in blocks of gcd(600, 256) = 8; all mass lies on word 13 and word 14, half each."""
    logprobs = torch.full((1, 600), -torch.inf)
    logprobs[0, 13:15] = torch.tensor(0.5).log()
    [token] = draw(logprobs, torch.tensor([uniform], dtype=torch.float64)).tolist()
    assert token == (13 if uniform < 0.5 else 14)


@pytest.mark.parametrize("vocabulary", [49_152, 1_009])
def test_frequencies_are_the_probabilities(vocabulary: int) -> None:
    """Pearson's χ² of 4,000 draws over 20 bins of equal mass: mean 19, above 43.8 once in a thousand."""
    torch.manual_seed(1)
    logprobs = torch.randn(1, vocabulary).log_softmax(-1)
    uniform = torch.rand(4_000, dtype=torch.float64)
    drawn = torch.cat([draw(logprobs.expand(len(u), -1), u) for u in uniform.split(200)])
    upto = logprobs[0].double().exp().cumsum(0)
    edges = torch.searchsorted(upto, torch.arange(1, 20, dtype=torch.float64) / 20)
    mass = torch.diff(torch.cat([upto.new_zeros(1), upto[edges], upto[-1:]]))
    seen = torch.bincount(torch.bucketize(drawn, edges), minlength=20)
    assert float(((seen - 4_000 * mass) ** 2 / (4_000 * mass)).sum()) < 43.8


def test_log_probabilities_are_those_that_were_sampled_from() -> None:
    stock = SimpleNamespace(logprobs_mode="processed_logprobs")
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    drawn, logprobs = forward(stock)(logits, {}, None, None)
    torch.testing.assert_close(logprobs, logits.log_softmax(-1))
    assert drawn.dtype == torch.long and drawn.shape == (1,)


def test_what_we_never_ask_for_goes_to_the_stock_sampler() -> None:
    stock = SimpleNamespace(logprobs_mode="processed_logprobs", forward_cpu=lambda *asked: asked)
    logits, k = torch.zeros(1, 4), torch.tensor([2])
    assert forward(stock)(logits, {}, k, None) == (logits, {}, k, None)
    stock.logprobs_mode = "raw_logprobs"
    assert forward(stock)(logits, {}, None, None) == (logits, {}, None, None)

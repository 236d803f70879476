"""The end of a simulation: base and live policy on prompts that nobody asked, judged by the hidden utility."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from heliotrope.client import AsyncClient, draw_request
from heliotrope.errors import Unavailable
from heliotrope.v1 import common_pb2, policy_pb2, sampler_pb2

from .judging import Reply, Samples, length_control, mean_and_interval, wins_by_prompt
from .ledger import Ledger
from .people import Population, measured_agreement
from .prompts import kept

BASE = "policy-v0"
MAX_LENGTH_CONTROL = 0.60
"""At or above this share of wins for base cut to length, the utility would be length in disguise."""


@dataclass(frozen=True)
class Final:
    """Settings of the final judging; the same sampling for both sides."""

    prompts: int = 100
    samples: int = 2
    max_tokens: int = 48
    temperature: float = 0.8


@dataclass(frozen=True)
class Judgement:
    """What the hidden utility says. ci95: bootstrap over prompts. length_ratio: live over base, mean tokens."""

    true_win_rate: float
    ci95: tuple[float, float]
    length_ratio: float
    length_control_win_rate: float


@dataclass(frozen=True)
class Report:
    """The demo's last line. seconds: wall clock of the whole run. kl_nats: of a response, live against base.
    agreement: of two people who both chose a side, on 100 pairs read by six each."""

    comparisons: int
    versions: int
    true_win_rate: float
    ci95: tuple[float, float]
    kl_nats: float | None
    length_ratio: float
    length_control_win_rate: float
    agreement: float | None
    in_flight_at_last_swap: int
    seconds: float
    requests: int
    failed_requests: int

    def line(self) -> str:
        """One line of JSON, figures rounded to four places."""
        rounded = {key: _rounded(value) for key, value in asdict(self).items()}
        return json.dumps(rounded, allow_nan=False)

    @property
    def good(self) -> bool:
        """Whether the policy is better than base beyond doubt, not by length alone, and no request failed."""
        honest = self.length_control_win_rate < MAX_LENGTH_CONTROL
        return self.ci95[0] > 0.5 and honest and self.failed_requests == 0


async def draw(client: AsyncClient, ledger: Ledger, adapter: str, final: Final) -> Samples:
    """`final.samples` replies of one adapter to each kept prompt. Raises Unavailable when some are missing."""
    prompts = kept()[: final.prompts]
    sampling = common_pb2.Sampling(temperature=final.temperature, max_tokens=final.max_tokens)
    drawn = await ledger.drain(client.draw(draw_request(adapter, prompts, final.samples, sampling)))
    if drawn is None or len(drawn) != len(prompts) * final.samples:
        came, wanted = len(drawn or ()), len(prompts) * final.samples
        why = "; ".join(ledger.failures) or "the stream ended early"
        raise Unavailable(f"{came} of {wanted} final samples of {adapter} came: {why}")
    return _by_prompt(prompts, drawn)


def judge(base: Samples, live: Samples) -> Judgement:
    """The live policy against base, and base cut to the live policy's length against base."""
    rate, low, high = mean_and_interval(wins_by_prompt(live, base))
    control, *_ = mean_and_interval(length_control(base, live))
    return Judgement(rate, (low, high), _mean_tokens(live) / max(1e-9, _mean_tokens(base)), control)


def agreement(base: Samples, population: Population) -> float | None:
    """Agreement of the population on base's first two replies to each prompt, each pair shown to six of them.

    The run's own shared items are too few to tell 0.6 from 0.7 (`measured_agreement`). None where nobody chose a side.
    """
    pairs = {prompt: (replies[0], replies[1]) for prompt, replies in base.items() if len(replies) > 1}
    try:
        return measured_agreement(population, pairs)
    except ValueError:
        return None


def kl_nats(manifest: Mapping[str, Any]) -> float | None:
    """KL of a version to base, nats a response, as its judge measured it; None when its manifest does not say."""
    nats = manifest.get("verdict", {}).get("kl", {}).get("figures", {}).get("nats")
    return float(nats) if isinstance(nats, int | float) else None


def published(policies: Sequence[policy_pb2.Policy]) -> int:
    """How many versions besides base the learner has published."""
    return sum(policy.policy_version != BASE for policy in policies)


def _by_prompt(prompts: Sequence[str], drawn: Sequence[sampler_pb2.DrawResponse]) -> Samples:
    ordered = sorted(drawn, key=lambda sample: (sample.prompt_index, sample.sample_index))
    replies: dict[str, list[Reply]] = {prompt: [] for prompt in prompts}
    for sample in ordered:
        whole = sample.finish_reason == common_pb2.FINISH_REASON_STOP
        replies[prompts[sample.prompt_index]].append(Reply(sample.text, whole, len(sample.token_ids)))
    return replies


def _mean_tokens(samples: Mapping[str, Sequence[Reply]]) -> float:
    lengths = [reply.tokens for replies in samples.values() for reply in replies]
    return sum(lengths) / len(lengths)


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value

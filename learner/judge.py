"""The gate between training and people: figures in, a verdict for each gate out. Any gate can veto.

A gate says pass, fail, inconclusive (too little to tell) or error. A candidate passes when none fails or errs and
at least one of the two gates that show a gain (`held_out_accuracy`, `reward_win_rate`) passes: docs/decisions/what-passes.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from heliotrope.errors import HeliotropeError
from heliotrope.settings.learner import Judge as Settings

Verdict = Literal["pass", "fail", "inconclusive", "error"]
GAINS = ("held_out_accuracy", "reward_win_rate")
Z95 = 1.959964
"""97.5 % quantile of the standard normal."""


@dataclass(frozen=True)
class Gate:
    """One gate's verdict with every figure that it rests on."""

    verdict: Verdict
    figures: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Judged:
    """One sample of the candidate or of its parent on a fresh prompt, with what the trainer says of it."""

    token_ids: tuple[int, ...]
    reward: float
    """The reward model's score; only differences under one prompt mean anything."""
    log_ratio: float
    """log candidate(y) − log base(y), nats over the response, by the trainer."""
    logprob: float = 0.0
    """log-probability under who said it, nats over the response, as served."""
    by_trainer: float = 0.0
    """log candidate(y), nats over the response, by the trainer."""


@dataclass(frozen=True)
class Evidence:
    """All that the gates look at. `candidate` and `parent` answer the same prompts in the same order."""

    held_out_pairs: int
    """Decided preferences that nothing was trained on."""
    held_out_accuracy: float
    """Share of them whose chosen response has the higher implicit reward; an exact tie counts half."""
    candidate: Sequence[Judged]
    parent: Sequence[Judged]
    reward_right: float = 0.0
    """How many of the reward model's newest predictions were right when made, no opinion counting half."""
    reward_predictions: int = 0
    """How many of them there were."""
    held_out_kl: float = 0.0
    """Mean log base(y) − log candidate(y) of the held-out pairs' responses, nats a response."""


def judge(evidence: Evidence, settings: Settings) -> dict[str, Gate]:
    """Every gate's verdict by name. A gate that raises one of our errors is an `error`, which vetoes."""
    gates: dict[str, Callable[[Evidence, Settings], Gate]] = {
        "held_out_accuracy": held_out_accuracy,
        "reward_win_rate": reward_win_rate,
        "kl": kl_to_base,
        "held_out_kl": kl_from_base,
        "length": length_drift,
        "repetition": repetition,
        "entropy": entropy,
    }
    return {name: _safely(gate, evidence, settings) for name, gate in gates.items()}


def passed(gates: Mapping[str, Gate]) -> bool:
    """Whether the candidate may face people."""
    vetoed = any(gate.verdict in ("fail", "error") for gate in gates.values())
    return not vetoed and any(gates[name].verdict == "pass" for name in GAINS if name in gates)


def held_out_accuracy(evidence: Evidence, settings: Settings) -> Gate:
    """Share of preferences never trained on that the candidate orders as the person did.

    Fails when even the upper end of the 95 % Wilson interval lies under `min_accuracy`.
    """
    pairs = evidence.held_out_pairs
    if pairs < settings.min_held_out:
        figures = {"pairs": pairs, "needed": settings.min_held_out}
        return Gate("inconclusive", figures, "too few held-out pairs")
    return _share("accuracy", evidence.held_out_accuracy * pairs, pairs, settings.min_accuracy)


def reward_win_rate(evidence: Evidence, settings: Settings) -> Gate:
    """Share of fresh prompts on which the reward model prefers the candidate's sample to the parent's.

    A reward model whose own predictions are not shown to beat a coin (95 % Wilson interval) can neither veto nor approve. One
    that never had a pair to predict, where people press thumbs only, can approve: nothing else would show a gain.
    """
    if len(evidence.candidate) != len(evidence.parent):
        raise HeliotropeError(
            f"{len(evidence.candidate)} samples of the candidate but {len(evidence.parent)} of its parent"
        )
    if not evidence.candidate:
        return Gate("inconclusive", {"prompts": 0}, "no fresh prompts")
    pairs = zip(evidence.candidate, evidence.parent, strict=True)
    wins = sum(1.0 if c.reward > p.reward else 0.5 if c.reward == p.reward else 0.0 for c, p in pairs)
    gate = _share("win_rate", wins, len(evidence.candidate), 0.5)
    untried = gate.verdict == "pass" and not evidence.reward_predictions
    if untried or _beats_a_coin(evidence.reward_right, evidence.reward_predictions):
        return gate
    return Gate("inconclusive", gate.figures, "the reward model is not shown to predict people")


def kl_to_base(evidence: Evidence, settings: Settings) -> Gate:
    """KL(candidate ‖ base), nats a response: the mean log-ratio of the candidate's own samples, against a budget.

    noise_floor: what trainer and engine differ by on these very responses with the same weights, mean |Δ log π(y)| over their tokens:
    as in the log-ratio, what they differ by at single tokens cancels inside a response where it has both signs.
    """
    ratios = [s.log_ratio for s in evidence.candidate]
    if not ratios:
        return Gate("inconclusive", {"prompts": 0}, "no fresh prompts")
    kl = sum(ratios) / len(ratios)
    figures = {
        "nats": kl,
        "budget": settings.max_kl,
        "n": len(ratios),
        "noise_floor": _floor(evidence.candidate),
    }
    if not math.isfinite(kl):
        return Gate("error", figures, "the log-ratio is not finite")
    return Gate("pass" if kl <= settings.max_kl else "fail", figures)


def kl_from_base(evidence: Evidence, settings: Settings) -> Gate:
    """How unlikely the candidate has made what people have read, against the same budget: log base(y) − log candidate(y)
    of held-out responses, nats a response; where base wrote them an estimate of KL(base ‖ candidate).

    A loss on pairs can make both responses unlikely: accuracy does not show it (docs/maths.md, "When both fall").
    """
    if evidence.held_out_pairs < settings.min_held_out:
        return Gate("inconclusive", {"pairs": evidence.held_out_pairs}, "too few held-out pairs")
    figures = {"nats": evidence.held_out_kl, "budget": settings.max_kl, "pairs": evidence.held_out_pairs}
    if not math.isfinite(evidence.held_out_kl):
        return Gate("error", figures, "the log-ratio is not finite")
    return Gate("pass" if evidence.held_out_kl <= settings.max_kl else "fail", figures)


def length_drift(evidence: Evidence, settings: Settings) -> Gate:
    """Mean length of the candidate's samples over the parent's, within a factor either way."""
    ours, theirs = (_mean_length(samples) for samples in (evidence.candidate, evidence.parent))
    if not (ours and theirs):
        return Gate(
            "inconclusive", {"candidate_tokens": ours, "parent_tokens": theirs}, "no samples to compare"
        )
    ratio = ours / theirs
    fine = 1 / settings.max_length_ratio <= ratio <= settings.max_length_ratio
    return Gate(
        "pass" if fine else "fail", {"ratio": ratio, "candidate_tokens": ours, "parent_tokens": theirs}
    )


def repetition(evidence: Evidence, settings: Settings) -> Gate:
    """Mean share of 4-grams that repeat an earlier one of the same sample."""
    if not evidence.candidate:
        return Gate("inconclusive", {"prompts": 0}, "no fresh prompts")
    share = sum(repeated_share(s.token_ids) for s in evidence.candidate) / len(evidence.candidate)
    return Gate(
        "pass" if share <= settings.max_repetition else "fail",
        {"share": share, "budget": settings.max_repetition},
    )


def entropy(evidence: Evidence, settings: Settings) -> Gate:
    """Entropy of the candidate's samples, nats a token, against its parent's: one step must not take most of it away.

    −Σ log π(y) / Σ |y|, as served: an estimate of the policy's entropy at the sampling temperature; of greedy draws only of how
    sure it is of them.
    """
    if not (evidence.candidate and evidence.parent):
        return Gate("inconclusive", {"prompts": 0}, "no fresh prompts")
    ours, theirs = (_entropy(samples) for samples in (evidence.candidate, evidence.parent))
    figures = {"nats": ours, "parent": theirs, "least": settings.min_entropy}
    return Gate("pass" if ours >= settings.min_entropy * theirs else "fail", figures)


def repeated_share(ids: Sequence[int], n: int = 4) -> float:
    """Share of n-grams of `ids` that stand earlier in it too, 0 to 1; 0 when it is shorter than n."""
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def wilson(successes: float, trials: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of a share. Source: Wilson 1927, JASA 22, eq. for p given q.

    centre ± half-width, with centre = (p + z²/2n) / (1 + z²/n) and
    half-width = z / (1 + z²/n) · sqrt(p(1 − p)/n + z²/4n²). `successes` may count ties as halves.
    """
    p, scale = successes / trials, 1 + z * z / trials
    centre = (p + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    return centre - half, centre + half


def _share(name: str, successes: float, trials: int, bar: float) -> Gate:
    low, high = wilson(successes, trials)
    share = successes / trials
    verdict: Verdict = "fail" if high < bar else "pass" if share > bar else "inconclusive"
    return Gate(verdict, {name: share, "low": low, "high": high, "n": trials, "bar": bar})


def _beats_a_coin(right: float, predictions: int) -> bool:
    return predictions > 0 and wilson(right, predictions)[0] > 0.5


def _mean_length(samples: Sequence[Judged]) -> float:
    return sum(len(s.token_ids) for s in samples) / len(samples) if samples else 0.0


def _floor(samples: Sequence[Judged]) -> float:
    return sum(abs(s.by_trainer - s.logprob) for s in samples) / (sum(len(s.token_ids) for s in samples) or 1)


def _entropy(samples: Sequence[Judged]) -> float:
    tokens = sum(len(s.token_ids) for s in samples) or 1
    return -sum(s.logprob for s in samples) / tokens


def _safely(gate: Callable[[Evidence, Settings], Gate], evidence: Evidence, settings: Settings) -> Gate:
    try:
        return gate(evidence, settings)
    except HeliotropeError as error:
        return Gate("error", {}, str(error))

"""Two recipes on the same crowds: by how much one's policies are better, and how much of that is luck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, stdev

import numpy as np
from scipy.stats import t

from benchmarks.clustered import interval

Shares = Mapping[str, float]
"""Of duels with base that a policy wins, by prompt."""


def difference(ours: Sequence[Shares], theirs: Sequence[Shares]) -> dict[str, object]:
    """Mean win share of ours less theirs, crowd by crowd and prompt by prompt: both learned from the same votes.

    over_prompts: 95 % bootstrap over prompts, each with the rows of all crowds: would it hold for other questions.
    over_crowds: 95 % interval of Student's t over the crowds' means: would it hold for other people; None of one crowd.
    """
    gaps = [{prompt: a[prompt] - b[prompt] for prompt in a} for a, b in zip(ours, theirs, strict=True)]
    rows = [(gap, prompt) for crowd in gaps for prompt, gap in crowd.items()]
    by_crowd = [fmean(crowd.values()) for crowd in gaps]
    found = interval(np.array([gap for gap, _ in rows]), [prompt for _, prompt in rows])
    return {
        "difference": fmean(by_crowd), "by_crowd": by_crowd, "over_prompts": (found["low"], found["high"]),
        "over_crowds": _over(by_crowd),
    }  # fmt: skip


def _over(means: Sequence[float]) -> tuple[float, float] | None:
    if len(means) < 2:
        return None
    reach = float(t.ppf(0.975, len(means) - 1)) * stdev(means) / sqrt(len(means))
    return fmean(means) - reach, fmean(means) + reach

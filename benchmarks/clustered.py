"""Shares with intervals that know that rows of one prompt are not independent, and calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

RESAMPLES = 2000
BINS = 10


def right(margins: np.ndarray) -> np.ndarray:
    """1 where the chosen response has the higher reward, 0.5 where both have the same, else 0."""
    return np.where(margins == 0, 0.5, margins > 0).astype(float)


def interval(values: np.ndarray, clusters: Sequence[str], seed: int = 1) -> dict[str, float]:
    """Mean with its 95 % percentile bootstrap interval over whole clusters.

    Cameron, Gelbach & Miller 2008, "Bootstrap-based improvements for inference with clustered errors", section III:
    clusters are drawn with replacement, each with all its rows.
    """
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(index, weights=values)
    sizes = np.bincount(index)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(sums), (RESAMPLES, len(sums)))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"mean": float(values.mean()), "low": float(low), "high": float(high), "n": len(values)}


def calibration_error(margins: np.ndarray) -> float:
    """Mean gap between how sure the model is of its choice and how often it is right, weighted by bin, 0 to 1.

    Guo et al. 2017, arXiv 1706.04599, eq. 3, over ten equal bins of confidence from 0.5 to 1.
    """
    sure = expit(np.abs(margins))
    bins = np.minimum(((sure - 0.5) * 2 * BINS).astype(int), BINS - 1)
    gaps = [
        abs(sure[bins == b].mean() - right(margins)[bins == b].mean()) * (bins == b).mean()
        for b in range(BINS)
        if (bins == b).any()
    ]
    return float(sum(gaps))


def correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Pearson's, None where one of them does not vary or there are fewer than three."""
    if len(x) < 3 or x.std() == 0 or y.std() == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])

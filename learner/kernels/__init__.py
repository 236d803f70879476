"""Autograd functions that know the base is frozen, so they do, and keep, far less.

Measured in docs/experiments.md ("The learner's core").
"""

from learner.kernels.attention import Attend
from learner.kernels.head import TokenLogprobs, laid_words
from learner.kernels.layers import AddNorm, Gate, LowRankLinears, LowRankMlp, Matrices
from learner.kernels.plain import Heads

__all__ = [
    "AddNorm",
    "Attend",
    "Gate",
    "Heads",
    "LowRankLinears",
    "LowRankMlp",
    "Matrices",
    "TokenLogprobs",
    "laid_words",
]

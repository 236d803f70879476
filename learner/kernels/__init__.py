"""Autograd functions that know the base is frozen, so they do, and keep, far less.

Measured in docs/experiments.md ("The learner's core").
"""

from learner.kernels.attention import Attend
from learner.kernels.head import TokenLogprobs
from learner.kernels.layers import Gate, LowRankLinears, LowRankMlp, RmsNorm

__all__ = ["Attend", "Gate", "LowRankLinears", "LowRankMlp", "RmsNorm", "TokenLogprobs"]

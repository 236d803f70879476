"""What knows that the base is frozen, so that it does, and keeps, far less.

Measured in docs/experiments.md ("The learner's core").
"""

from learner.kernels.attention import Attention, Sight
from learner.kernels.head import TokenLogprobs, laid_words
from learner.kernels.layers import Layer, Norm, Scale, through
from learner.kernels.linears import Linears, LowRankLinears
from learner.kernels.plain import Heads

__all__ = [
    "Attention",
    "Heads",
    "Layer",
    "Linears",
    "LowRankLinears",
    "Norm",
    "Scale",
    "Sight",
    "TokenLogprobs",
    "laid_words",
    "through",
]

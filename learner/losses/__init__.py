"""The losses, pure: tensors and floats in, a small named result out. docs/maths.md derives the signs.

Log-probabilities and log-ratios are in nats, of a whole response: the sum over its tokens.
`weights` are each example's share of the loss; left out, the loss is a mean. A step that is cut into several
calls passes shares of the whole step and adds the results.
"""

from __future__ import annotations

from learner.losses.direct import DpoForm, DpoLoss, Variant, dpo
from learner.losses.imitation import SftLoss, sft
from learner.losses.length import desensitised
from learner.losses.rewards import BradleyTerryLoss, ThumbLoss, bradley_terry, centring, pointwise
from learner.losses.terms import Both
from learner.losses.utility import KtoLoss, ThumbCounts, kto, reference_point

__all__ = [
    "Both",
    "BradleyTerryLoss",
    "DpoForm",
    "DpoLoss",
    "KtoLoss",
    "SftLoss",
    "ThumbCounts",
    "ThumbLoss",
    "Variant",
    "bradley_terry",
    "centring",
    "desensitised",
    "dpo",
    "kto",
    "pointwise",
    "reference_point",
    "sft",
]

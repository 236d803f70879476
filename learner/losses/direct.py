"""Direct preference optimisation: the policy is its own reward model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch.nn.functional import logsigmoid

from learner.losses.terms import Both, PerPair, Scalar, cross_entropy, total

Variant = Literal["sigmoid", "conservative", "robust", "ipo"]


@dataclass(frozen=True)
class DpoForm:
    """Which loss on which scale.

    beta > 0: strength of the pull to the reference, 1 / nats; IPO's tau. flip_rate, 0 <= eps < 1/2: the chance that
    a label is the wrong way round, for "conservative" and "robust". Raises ValueError for what makes no sense.
    """

    beta: float = 0.1
    variant: Variant = "sigmoid"
    flip_rate: float = 0.0

    def __post_init__(self) -> None:
        if not (self.beta > 0 and 0 <= self.flip_rate < 0.5):
            raise ValueError(
                f"beta {self.beta} must be above 0 and flip_rate {self.flip_rate} in [0, 0.5): "
                "labels that are wrong half of the time say nothing"
            )
        if self.flip_rate and self.variant not in ("conservative", "robust"):
            raise ValueError(f"{self.variant} takes no flip_rate; use conservative or robust, or set it to 0")


class DpoLoss(NamedTuple):
    """`loss` is a scalar to minimise; the others are one number a pair, without gradient."""

    loss: Scalar
    losses: PerPair
    """Each pair's loss before weighting, nats (IPO: 1, a square)."""
    chosen_rewards: PerPair
    """beta * log(policy / reference) of the chosen response, nats."""
    rejected_rewards: PerPair
    """The same of the rejected response."""

    @property
    def margins(self) -> PerPair:
        """By how much the implicit reward prefers the chosen response; a pair is right when it is above 0."""
        return self.chosen_rewards - self.rejected_rewards


def dpo(
    policy: Both,
    reference: Both,
    form: DpoForm,
    weights: PerPair | None = None,
    lengths: Both | None = None,
) -> DpoLoss:
    """Raise the chosen log-ratio over the rejected one, less the surer the policy is already.

        h = [log pi(y_w) - log ref(y_w)] - [log pi(y_l) - log ref(y_l)],  m = beta * h
        sigmoid       -log s(m)
        conservative  -(1 - eps) log s(m) - eps log s(-m)
        robust        [-(1 - eps) log s(m) + eps log s(-m)] / (1 - 2 eps)
        ipo           (h' - 1 / (2 beta))^2,  h' = h with each log-ratio over its response's tokens

    sigmoid: Rafailov et al. 2023, arXiv 2305.18290, eq. 7. conservative: Mitchell 2023, "A note on DPO with noisy
    preferences & relationship to IPO", eq. 3. robust, unbiased under flips: Chowdhury et al. 2024, arXiv 2403.00409,
    eq. 12. ipo: Azar et al. 2023, arXiv 2310.12036, eq. 17, which writes sums; with `lengths` (tokens) it is the mean
    a token, as in TRL; without them the sum as printed.

    Shapes: one number a pair. The expectation of "robust" over flips is "sigmoid" on true labels; a single pair's
    may be below 0.
    """
    ratios = Both(policy.chosen - reference.chosen, policy.rejected - reference.rejected)
    chosen, rejected = form.beta * ratios.chosen, form.beta * ratios.rejected
    if form.variant == "ipo":
        losses = _squared(ratios, form.beta, lengths)
    else:
        losses = _logistic(chosen - rejected, form)
    return DpoLoss(total(losses, weights), losses.detach(), chosen.detach(), rejected.detach())


def _logistic(margins: PerPair, form: DpoForm) -> PerPair:
    eps = form.flip_rate
    if form.variant == "robust":
        return (-(1 - eps) * logsigmoid(margins) + eps * logsigmoid(-margins)) / (1 - 2 * eps)
    return cross_entropy(margins, eps if form.variant == "conservative" else 0.0)


def _squared(ratios: Both, beta: float, lengths: Both | None) -> PerPair:
    if lengths is not None:
        ratios = Both(ratios.chosen / lengths.chosen, ratios.rejected / lengths.rejected)
    return (ratios.chosen - ratios.rejected - 1 / (2 * beta)) ** 2

"""Learning from what people wrote themselves."""

from __future__ import annotations

from typing import NamedTuple

from learner.losses.terms import PerResponse, Scalar


class SftLoss(NamedTuple):
    """`loss` is a scalar to minimise, nats a token."""

    loss: Scalar
    losses: PerResponse
    """Each response's loss before weighting: nats a token, without gradient."""


def sft(logprobs: PerResponse, lengths: PerResponse, weights: PerResponse | None = None) -> SftLoss:
    """Make the demonstrated response likely; the prompt's tokens carry no loss.

        l_i = -log pi(y_i) / |y_i|
        loss = sum_i w_i * l_i;  without weights w_i = |y_i| / sum_j |y_j|, so that every token counts alike

    Ouyang et al. 2022, arXiv 2203.02155, section 3.5 (supervised fine-tuning): maximum likelihood. The default is TRL's
    mean over tokens; with weights a response counts by its share, however long it is, so that nobody outweighs
    others by writing more.

    Shapes: log-probability in nats and tokens, one a response.
    """
    losses = -logprobs / lengths
    weights = lengths / lengths.sum() if weights is None else weights
    return SftLoss((weights * losses).sum(), losses.detach())

"""Length-desensitised log-probabilities: what a longer response says beyond the shorter one counts less."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

PerToken = Float[Tensor, "tokens"]


def desensitised(
    logprobs: PerToken, lengths: Int[Tensor, "pairs two"], alpha: float
) -> Float[Tensor, "pairs two"]:
    """The tail by which one response is longer than the other counts alpha, so length alone earns less.

        log pi'(y) = sum_{t <= l} log pi(y_t) + alpha * sum_{t > l} log pi(y_t),  l = min(|y_w|, |y_l|)

    Liu et al. 2024, Length Desensitization in Direct Preference Optimization, arXiv 2409.06411, section 3 (the modified
    likelihood). Policy and reference are both summed like this; alpha = 1 is plain DPO, alpha = 0 cuts the tail.

    Shapes: nats of every token, pair by pair, chosen before rejected; lengths in tokens, chosen then rejected.
    """
    flat = lengths.flatten()
    owners = torch.repeat_interleave(torch.arange(len(flat), device=flat.device), flat)
    first = flat.cumsum(0) - flat
    place = torch.arange(len(logprobs), device=flat.device) - first[owners]
    shared = lengths.min(1).values.repeat_interleave(2)[owners]
    counted = torch.where(place < shared, logprobs, alpha * logprobs)
    return logprobs.new_zeros(len(flat)).index_add(0, owners, counted).view(-1, 2)

"""Two autograd functions that know the base is frozen, so they do, and keep, far less.

Measured in docs/experiments.md ("The learner's core").
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear

PerToken = Float[Tensor, "tokens"]
TokenIndex = Int[Tensor, "tokens"]

CHUNK = 256
"""Tokens whose logits exist at once: 50 MB at a vocabulary of 49,152 in float32."""


class TokenLogprobs(torch.autograd.Function):
    """log softmax(h W^T)[y] in nats, keeping one vector a token instead of one logit a word.

    The gradient on h is known as soon as the logits are: (W[y] - sum_v p_v W_v) times the incoming scalar.
    It is computed with the logits, a chunk of tokens at a time, so nothing of vocabulary width outlives its
    chunk and backward multiplies instead of computing the logits again. W is frozen: it gets no gradient.
    Shapes: h [tokens, hidden], W [vocabulary, hidden], y [tokens] -> [tokens].
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "tokens hidden"],
        weight: Float[Tensor, "vocabulary hidden"],
        targets: TokenIndex,
    ) -> PerToken:
        wanted = ctx.needs_input_grad[0]
        logprobs = _wide(hidden.new_empty(len(hidden)))
        slopes = torch.empty_like(hidden) if wanted else None
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            logits = _wide(linear(hidden[part], weight))
            total = logits.logsumexp(-1)
            logprobs[part] = logits.gather(1, targets[part, None])[:, 0] - total
            if slopes is not None:
                probabilities = logits.sub_(total[:, None]).exp_()
                slopes[part] = weight[targets[part]] - probabilities.to(weight.dtype) @ weight
        if slopes is not None:
            ctx.save_for_backward(slopes)
        return logprobs

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return grads[0][:, None].to(slopes.dtype) * slopes, None, None


class LowRankLinear(torch.autograd.Function):
    """x (W + s B A)^T with W frozen: the update is merged first, so wide activations are written once.

    PEFT adds s * (x A^T) B^T to the output, which passes three more times over every activation.
    Hu et al. 2021, LoRA, arXiv 2106.09685, eq. 3.
    Shapes: x [..., in], W [out, in], A [rank, in], B [out, rank] -> [..., out].
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
        merged = torch.addmm(weight, b, a, alpha=scale)
        ctx.save_for_backward(x, merged, a, b)
        ctx.scale = scale
        return linear(x, merged)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        x, merged, a, b = ctx.saved_tensors
        grad = grads[0].reshape(-1, merged.shape[0])
        flat = x.reshape(-1, merged.shape[1])
        grad_x = (grad @ merged).view(x.shape) if ctx.needs_input_grad[0] else None
        grad_a = (grad @ b).t() @ flat * ctx.scale
        grad_b = grad.t() @ (flat @ a.t()) * ctx.scale
        return grad_x, None, grad_a, grad_b, None


def _wide(x: Tensor) -> Tensor:
    """At least float32: a sum over a vocabulary is lost in 8 bits of mantissa."""
    return x.to(torch.promote_types(x.dtype, torch.float32))

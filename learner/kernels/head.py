"""From hidden states to log-probabilities of the words that follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from learner.kernels.fill import filled
from learner.kernels.laid import laid, product
from learner.kernels.passes import Tally, passes
from learner.kernels.wide import wide

PerToken = Float[Tensor, "tokens"]
TokenIndex = Int[Tensor, "tokens"]

TOKENS, WORDS = 512, 2048
"""So many logits exist at once: they stay in a core's cache, and below 32 MiB, above which glibc gives memory back to the kernel each
time it is freed."""


class TokenLogprobs(torch.autograd.Function):
    """log softmax(h W^T)[y] in nats, keeping one vector a token instead of one logit a word.

    One pass over the vocabulary, a slice of words at a time, under a running maximum m (Milakov and Gimelshein 2018, arXiv
    1805.02867, algorithm 3): with e_v = exp(l_v - m), r = sum_{v != y} e_v and Z = r + e_y it is l_y - m - log Z. The gradient on h
    comes from the same pass, (r / Z) W[y] - sum_{v != y} (e_v / Z) W_v times the incoming scalar: 1 - p_y is never a difference, which
    8 bits would lose, and backward multiplies instead of computing the logits again. W is frozen: it gets no gradient.
    Shapes: h [tokens, hidden], W [vocabulary, hidden], y [tokens] -> [tokens]. ordered: of `laid_words`, or nothing.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "tokens hidden"],
        weight: Float[Tensor, "vocabulary hidden"],
        targets: TokenIndex,
        ordered: Sequence[Tensor | None] = (),
    ) -> PerToken:
        wanted, count = ctx.needs_input_grad[0], len(hidden)
        fill = filled(count) - count
        parts = pad(hidden, (0, 0, 0, fill)).split(TOKENS), pad(targets, (0, fill)).split(TOKENS)
        made = [_scored(h, weight, y, wanted, ordered) for h, y in zip(*parts, strict=True)]
        if wanted:
            ctx.save_for_backward(torch.cat([slopes for _, slopes in made])[:count])
        return torch.cat([logprobs for logprobs, _ in made])[:count]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return grads[0][:, None].to(slopes.dtype) * slopes, None, None, None


def laid_words(weight: Float[Tensor, "vocabulary hidden"]) -> list[Tensor | None]:
    """`laid` of each slice of words, for `TokenLogprobs`."""
    return [laid(words) for words in weight.split(WORDS)]


def _scored(
    hidden: Float[Tensor, "tokens hidden"],
    weight: Float[Tensor, "vocabulary hidden"],
    targets: TokenIndex,
    wanted: bool,
    ordered: Sequence[Tensor | None],
) -> tuple[PerToken, Float[Tensor, "tokens hidden"]]:
    """`TokenLogprobs` of a few tokens, and its slopes where they are wanted.

    A product of bfloat16 ends with 8 bits, a twentieth of a nat of a likely word: the two words that log-probabilities depend on
    most, the target and the likeliest, are multiplied again in float32.
    """
    ours, way = _exact(hidden, weight[targets]), passes(weight)
    so_far = Tally(ours.clone(), targets.clone(), torch.zeros_like(ours))
    pull = wide(torch.zeros_like(hidden)) if wanted else hidden[:0]
    for number, words in enumerate(weight.split(WORDS)):
        logits = product(hidden, words, None, ordered[number] if ordered else None)
        shrink, raised = way.tally(logits, targets, so_far, number * WORDS)
        if wanted:
            pull.mul_(shrink[:, None]).add_(wide(raised @ words))
    high, likeliest, rest = so_far
    if weight.dtype != ours.dtype:
        those = weight[likeliest]
        more = torch.where(likeliest == targets, 0.0, (_exact(hidden, those) - high).expm1())
        rest = rest.add_(more)
        if wanted:
            pull.addcmul_(more[:, None], wide(those))
    total = rest + (ours - high).exp_()
    slopes = (rest / total)[:, None] * wide(weight[targets]) - pull.div_(total[:, None]) if wanted else pull
    return ours - high - total.log(), slopes.to(hidden.dtype)


def _exact(hidden: Tensor, words: Tensor) -> PerToken:
    return torch.linalg.vecdot(wide(hidden), wide(words))

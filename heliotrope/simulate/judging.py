"""Final judging by the hidden utility: true win rate, its interval, and the length control.

Only for the end of a simulation, on prompts that nobody trained on. Replies are compared across samples:
each of one side's samples of a prompt against each of the other's.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .utility import utility


@dataclass(frozen=True)
class Reply:
    """One sampled reply. `finished`: the model stopped by itself. `tokens`: its length in tokens."""

    text: str
    finished: bool
    tokens: int


Samples = Mapping[str, Sequence[Reply]]
"""Prompt → its sampled replies."""


def wins_by_prompt(ours: Samples, theirs: Samples, skip_same: bool = False) -> dict[str, float]:
    """Per prompt, the share of (our sample, their sample) duels that ours wins by utility; an equal utility
    is half.

    `skip_same` leaves out duels between samples of the same number: for sides that were made from the same
    draws.
    """
    shares: dict[str, float] = {}
    for prompt, replies in ours.items():
        mine = [utility(prompt, reply.text, reply.finished) for reply in replies]
        other = [utility(prompt, reply.text, reply.finished) for reply in theirs[prompt]]
        duels = [
            _win(a, b) for i, a in enumerate(mine) for j, b in enumerate(other) if not (skip_same and i == j)
        ]
        shares[prompt] = sum(duels) / len(duels)
    return shares


def mean_and_interval(
    shares: Mapping[str, float], seed: int = 0, rounds: int = 2000
) -> tuple[float, float, float]:
    """Mean of the prompts' win shares and its 95 % interval, by bootstrap over prompts (clusters)."""
    values = list(shares.values())
    if not values:
        raise ValueError("no prompts were judged; draw at least one before asking for a win rate")
    rng = random.Random(seed)
    means = sorted(math.fsum(rng.choices(values, k=len(values))) / len(values) for _ in range(rounds))
    return math.fsum(values) / len(values), means[int(0.025 * rounds)], means[int(0.975 * rounds) - 1]


def length_control(base: Samples, live: Samples) -> dict[str, float]:
    """Per prompt, the win share of base cut to the live policy's length against uncut base.

    Sample k of base is cut at the last sentence end within the length of the live policy's sample k (in
    words), then judged against base's *other* samples, as the policy is: against itself it would only be
    asked whether a tail is missed.
    """
    cut = {
        prompt: [_cut(reply, live[prompt][k % len(live[prompt])]) for k, reply in enumerate(replies)]
        for prompt, replies in base.items()
    }
    return wins_by_prompt(cut, base, skip_same=True)


def cut_at_sentence(text: str, words: int) -> str:
    """`text` up to the last sentence end within its first `words` words; those words whole if no sentence
    ends there."""
    pieces = list(re.finditer(r"\S+", text))[:words]
    if not pieces:
        return ""
    head = text[: pieces[-1].end()]
    ends = [end.end() for end in re.finditer(r"(?<!\d)[.!?][\"'”’)*]*(?=\s|$)", head)]
    return head[: ends[-1]] if ends else head


def _cut(reply: Reply, like: Reply) -> Reply:
    text = cut_at_sentence(reply.text, len(like.text.split()))
    finished = reply.finished and text == reply.text
    return Reply(text, finished, round(reply.tokens * len(text) / max(1, len(reply.text))))


def _win(ours: float, theirs: float) -> float:
    return 1.0 if ours > theirs else 0.5 if ours == theirs else 0.0

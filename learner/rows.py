"""Rows that share their prompt: one sequence [prompt, response 1, response 2, …] instead of several.

Each response sees the prompt and itself, never another response: its position ids go on from the prompt's
end and a mask hides the rest. The prompt is then computed once for a pair instead of twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from heliotrope.errors import InvalidInput

TokenIds = Sequence[int]
PerToken = Int[Tensor, "tokens"]
PerResponse = Int[Tensor, "responses"]
PAD = -1


@dataclass(frozen=True)
class Row:
    """A prompt and the responses to it, all as token ids."""

    id: str
    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    dropped: int = 0
    """Prompt tokens left out, oldest turns first, so that the row fits."""

    def __len__(self) -> int:
        """Tokens of the row, all responses counted."""
        return len(self.prompt) + sum(map(len, self.responses))


@dataclass(frozen=True)
class Batch:
    """Rows as tensors, padded at the right. Flat indices count positions of `token_ids` row by row."""

    ids: tuple[str, ...]
    lengths: tuple[int, ...]
    token_ids: Int[Tensor, "rows seq"]
    positions: Int[Tensor, "rows seq"]
    """Position ids for the rotary embedding; each response goes on where the prompt ends."""
    mask: Bool[Tensor, "rows 1 seq seq"]
    """True where position i (third axis) may look at position j (last axis)."""
    tokens: PerToken
    """Flat index of every response token."""
    predictors: PerToken
    """Flat index of the position whose output predicts it."""
    targets: PerToken
    """The token's id."""
    owners: PerToken
    """Which response it belongs to, counted through the batch, all responses of a row in turn."""
    last: PerResponse
    """Flat index of each response's last token."""


def make_row(
    id: str, prompt: TokenIds, responses: Iterable[TokenIds], max_tokens: int, bounds: Sequence[int] = ()
) -> Row:
    """A row of at most `max_tokens` tokens. A response is never cut.

    `bounds` are the offsets in the prompt where a turn that may go begins, oldest first. A row that is too long loses
    the oldest turns, no more than it must; what stands before the first one (the system message) stays, and so does
    the last. Raises InvalidInput naming the row when nothing fits, when no bounds are given, or when the prompt
    or a response is empty.
    """
    row = Row(id, tuple(prompt), tuple(tuple(response) for response in responses))
    if not row.prompt or not row.responses or not all(row.responses):
        raise InvalidInput(f"example {id}: prompt or response is empty; leave it out of training")
    excess = len(row) - max_tokens
    if excess <= 0:
        return row
    kept = bounds[0] if bounds else 0
    start = min((b for b in bounds if kept + excess <= b < len(row.prompt)), default=None)
    if start is None:
        why = "no message of the prompt can be dropped to fit" if bounds else "its message bounds are unknown"
        limit = f"{max_tokens} allowed (dpo.max_tokens)"
        raise InvalidInput(f"example {id}: {len(row)} tokens, {limit}, and {why}; raise the limit")
    return Row(id, row.prompt[:kept] + row.prompt[start:], row.responses, dropped=start - kept)


def batches(rows: Iterable[Row], token_budget: int) -> list[Batch]:
    """Rows grouped by length so that rows x longest stays within `token_budget`; a longer row goes alone."""
    groups: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: (-len(row), row.id)):
        if groups and len(groups[-1][0]) * (len(groups[-1]) + 1) <= token_budget:
            groups[-1].append(row)
        else:
            groups.append([row])
    return [collate(group) for group in groups]


def collate(rows: Sequence[Row]) -> Batch:
    """One batch of these rows, in this order."""
    lengths = tuple(map(len, rows))
    width = max(lengths)
    token_ids = torch.zeros(len(rows), width, dtype=torch.long)
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    segments = torch.full((len(rows), width), PAD)
    tokens, predictors, owners, last = [], [], [], []
    for index, row in enumerate(rows):
        end = len(row.prompt)
        token_ids[index, : lengths[index]] = torch.tensor(row.prompt + sum(row.responses, ()))
        positions[index, :end] = torch.arange(end)
        segments[index, :end] = 0
        for number, response in enumerate(row.responses, 1):
            start, end = end, end + len(response)
            positions[index, start:end] = len(row.prompt) + torch.arange(len(response))
            segments[index, start:end] = number
            here = index * width
            tokens += range(here + start, here + end)
            predictors += [here + len(row.prompt) - 1, *range(here + start, here + end - 1)]
            owners += [len(last)] * len(response)
            last.append(here + end - 1)
    flat = torch.tensor(tokens)
    return Batch(
        ids=tuple(row.id for row in rows),
        lengths=lengths,
        token_ids=token_ids,
        positions=positions,
        mask=_visible(segments),
        tokens=flat,
        predictors=torch.tensor(predictors),
        targets=token_ids.flatten()[flat],
        owners=torch.tensor(owners),
        last=torch.tensor(last),
    )


def _visible(segments: Int[Tensor, "rows seq"]) -> Bool[Tensor, "rows 1 seq seq"]:
    """Backwards only, and only into the prompt or the own segment (padding sees itself: no empty softmax)."""
    past = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool).tril()
    shared = (segments == 0)[:, None, :] | (segments[:, :, None] == segments[:, None, :])
    return (past & shared)[:, None]

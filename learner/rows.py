"""Rows that share their prompt: one sequence [prompt, response 1, response 2, …] instead of several.

Each response sees the prompt and itself, never another response: its position ids go on from the prompt's
end and a mask hides the rest. The prompt is then computed once for a pair instead of twice, and what all prompts of a
batch begin with, such as a system message, once for the batch. Rows lie
one behind the other, each filled up to a multiple of a few positions that nobody else sees, and so is the batch: people's texts differ
so much in length that padding to the longest would be a third of the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from itertools import takewhile
from math import ceil

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from heliotrope.errors import InvalidInput
from learner.kernels.fill import filled, filled_batch

TokenIds = Sequence[int]
PerPosition = Int[Tensor, "positions"]
PerToken = Int[Tensor, "tokens"]


@dataclass(frozen=True)
class Row:
    """A prompt and the responses to it, all as token ids."""

    id: str
    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    dropped: int = 0
    """Prompt tokens left out, oldest turns first, so that the row fits."""
    compared: bool = True
    """Whether anybody asks what base says of it; of a demonstration nobody does."""

    def __len__(self) -> int:
        """Tokens of the row, all responses counted."""
        return len(self.prompt) + sum(map(len, self.responses))


WORTH = 8
"""Tokens that a batch's prompts must have in common to be computed once: attention goes over them by itself."""


@dataclass(frozen=True)
class Batch:
    """What its rows' prompts begin with, then the rest of each row with its fillers, as tensors. Indices count positions through the
    batch. A filler sees itself alone and predicts nothing."""

    rows: tuple[Row, ...]
    shared: int
    """Positions that all rows begin with; 0 where that is too little to be worth it."""
    token_ids: PerPosition
    positions: PerPosition
    """Position ids for the rotary embedding; each response goes on where the prompt ends."""
    masks: tuple[Bool[Tensor, "seq seen"], ...]
    """Of what is shared, if anything is, then of each row: true where its position i may look at position j of the whole row, what is
    shared first."""
    tokens: PerToken
    """Index of every response token."""
    predictors: PerToken
    """Index of the position whose output predicts it."""
    targets: PerToken
    """The token's id."""
    owners: PerToken
    """Which response it belongs to, counted through the batch, all responses of a row in turn."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the rows."""
        return tuple(row.id for row in self.rows)

    @property
    def responses(self) -> tuple[int, ...]:
        """How many each row has."""
        return tuple(len(row.responses) for row in self.rows)

    @property
    def count(self) -> int:
        """Responses in all."""
        return sum(self.responses)

    def join(self, of_rows: Sequence[Tensor]) -> Tensor:
        """A value for each position of the batch, from one for each position of each row: what is shared is the first row's. 0 where
        there is a filler."""
        parts = [of_rows[0][: self.shared]]
        for row, values, fill in zip(self.rows, of_rows, _fills(self.rows, self.shared), strict=True):
            assert len(values) >= len(row), f"row {row.id} has {len(row)} positions, not {len(values)}"
            own = values[self.shared : len(row)]
            parts += [own, own.new_zeros(fill, *own.shape[1:])]
        return torch.cat(parts)


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


def batches(rows: Iterable[Row], token_budget: int, multiple: int = 1) -> list[Batch]:
    """Rows dealt to batches of nearly equal size with `token_budget` positions at most, where no single row is longer: few, and a
    `multiple` of so many where there are so many rows."""
    longest_first = sorted(rows, key=lambda row: (-len(row), row.id))
    shared = _shared(longest_first)
    room = max(1, token_budget - shared)
    sizes = [filled(len(row) - shared) for row in longest_first]
    fewest = ceil(sum(min(1.0, size / room) for size in sizes))
    while True:
        fewest = ceil(fewest / multiple) * multiple
        groups = _dealt(sizes, min(fewest, len(sizes)))
        made = [[longest_first[i] for i in group] for group in groups]
        if all(len(group) == 1 or _positions(group, _shared(group)) <= token_budget for group in made):
            return list(map(collate, made))
        fewest += max(1, fewest // 8)


def _dealt(sizes: Sequence[int], count: int) -> list[list[int]]:
    """The place of each to the group that has fewest positions so far."""
    groups: list[list[int]] = [[] for _ in range(count)]
    loads = [(0, number) for number in range(count)]
    for place, size in enumerate(sizes):
        load, number = loads[0]
        groups[number].append(place)
        heapreplace(loads, (load + size, number))
    return groups


def collate(rows: Sequence[Row]) -> Batch:
    """One batch of these rows, in this order."""
    shared = _shared(rows)
    token_ids, positions = list(rows[0].prompt[:shared]), list(range(shared))
    tokens, predictors, owners = list[int](), list[int](), list[int]()
    masks = [_visible((shared,))] if shared else []
    here = shared
    for row, fill in zip(rows, _fills(rows, shared), strict=True):
        prompt, end = len(row.prompt), here + len(row.prompt) - shared
        last = end - 1 if prompt > shared else shared - 1
        positions += range(shared, prompt)
        for response in row.responses:
            start, end = end, end + len(response)
            positions += range(prompt, prompt + len(response))
            tokens += range(start, end)
            predictors += [last, *range(start, end - 1)]
            owners += [owners[-1] + 1 if owners else 0] * len(response)
        token_ids += [token for part in (row.prompt[shared:], *row.responses) for token in part] + [0] * fill
        positions += [0] * fill
        masks.append(_visible((prompt, *map(len, row.responses)), fill)[shared:])
        here = end + fill
    ids, indices = torch.tensor(token_ids), torch.tensor(tokens)
    return Batch(
        rows=tuple(rows),
        shared=shared,
        token_ids=ids,
        positions=torch.tensor(positions),
        masks=tuple(masks),
        tokens=indices,
        predictors=torch.tensor(predictors),
        targets=ids[indices],
        owners=torch.tensor(owners),
    )


def _positions(rows: Sequence[Row], shared: int) -> int:
    """Of their batch, if so many tokens are shared."""
    return shared + sum(len(row) - shared for row in rows) + sum(_fills(rows, shared))


def _fills(rows: Sequence[Row], shared: int) -> list[int]:
    """Fillers behind each row; behind the last one those of the batch too."""
    sizes = [len(row) - shared for row in rows]
    fills = [filled(size) - size for size in sizes]
    count = shared + sum(sizes) + sum(fills)
    if len(rows) > 1:
        fills[-1] += filled_batch(count) - count
    return fills


def _shared(rows: Sequence[Row]) -> int:
    """Tokens that the prompts of several rows begin with, if they are worth it."""
    if len(rows) < 2:
        return 0
    places = zip(*(row.prompt for row in rows), strict=False)
    count = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, places))
    return count if count >= WORTH and _positions(rows, count) < _positions(rows, 0) else 0


def _visible(segments: Sequence[int], fill: int = 0) -> Bool[Tensor, "seq seq"]:
    """Backwards only, and only into the prompt or the own response. segments: tokens of the prompt, then of each response. Of the
    fillers behind them each sees itself."""
    sizes = torch.tensor([*segments, *[1] * fill])
    of = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    within = (of[:, None] == of[None, :]) | ((of == 0)[None, :] & (of < len(segments))[:, None])
    return within.tril()

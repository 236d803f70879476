"""What is computed once an example and serves every epoch, adapter and version after it.

The reference is always base, and the layers below the adapters never change, so neither goes stale.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from learner.backbone import Backbone, PerToken, States
from learner.rows import Batch, Row, collate
from learner.steps import cut
from learner.workers import MOST_WORKERS, Made, on_one_thread, side_by_side, workers_on

PerResponse = Float[Tensor, "responses"]


@dataclass(frozen=True)
class Prepared:
    """The frozen model's view of one row."""

    row: Row
    states: Mapping[int, Float[Tensor, "seq hidden"]]
    """What enters the first layer of each adapter, by layer, but for the lowest; empty once dropped for memory."""
    reference: PerResponse
    """Log-probability of each response under base, nats; NaN of a row that nobody compares."""
    tokens: PerToken
    """The same of each token, response by response."""


MANY = 16
"""Rows through all of base for which its matrices are laid out."""


class PreparedStore:
    """Prepared examples by id. Beyond `max_bytes` of states the oldest lose theirs, and are run again when needed."""

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        self._items: dict[str, Prepared] = {}
        self._refused: set[str] = set()
        self._with_states: dict[str, int] = {}
        self._free = max_bytes

    def __contains__(self, id: str) -> bool:
        """Whether it need not be prepared any more, also because it cannot be."""
        return id in self._items or id in self._refused

    def refuse(self, ids: Iterable[str]) -> None:
        """No row can be made of these; nobody need try again."""
        self._refused.update(ids)

    def __getitem__(self, id: str) -> Prepared:
        return self._items[id]

    def retain(self, ids: Collection[str]) -> None:
        """Forget all examples but these."""
        self.forget(self._items.keys() - set(ids))
        self._refused.intersection_update(ids)

    def forget(self, ids: Iterable[str]) -> None:
        """Prepare these anew when they are next asked for."""
        for id in ids:
            self._items.pop(id, None)
            self._free += self._with_states.pop(id, 0)

    def reference(self, batch: Batch) -> PerResponse:
        """Reference log-probabilities of a batch's responses, nats."""
        return torch.cat([self._items[id].reference for id in batch.ids])

    def token_reference(self, batch: Batch) -> PerToken:
        """Reference log-probabilities of a batch's response tokens, nats, in the order of `batch.tokens`."""
        return torch.cat([self._items[id].tokens for id in batch.ids])

    def states(self, backbone: Backbone, batch: Batch, adapter: str | None = None) -> States:
        """What enters the adapter's first layer; computed where it is not kept."""
        layer = backbone.first_layer(adapter)
        if layer == 0:
            return backbone.lower(batch, adapter)
        kept = [self._items[id].states.get(layer) if id in self._items else None for id in batch.ids]
        each = zip(batch.rows, kept, strict=True)
        return batch.join(
            [_lower_alone(backbone, row, adapter) if item is None else item for row, item in each]
        )

    def prepare(self, backbone: Backbone, rows: Iterable[Row], workers: int = MOST_WORKERS) -> None:
        """Run base over the rows that are new, or whose tokens are not what they were. Worth calling as they come in: half
        of a short training is this.

        Each row runs alone, on one thread: in company its last bits would depend on who came at the same time, and a version
        could not be made again (docs/decisions/rows-are-prepared-alone.md). On a CPU up to `workers` rows run side by side,
        as far as torch has threads.
        """
        new = {row.id: row for row in rows if row.id not in self._items or self._items[row.id].row != row}
        if not new:
            return
        workers = min(workers, workers_on(backbone.device))
        many = sum(row.compared for row in new.values()) >= MANY
        with backbone.worn(None), backbone.laid_out(workers) if many else nullcontext():
            for item in side_by_side(partial(_prepared, backbone), list(new.values()), workers, threads=1):
                self._add(item)

    def _add(self, item: Prepared) -> None:
        id = item.row.id
        self._free += self._with_states.pop(id, 0)
        self._items[id] = item
        self._with_states[id] = sum(states.nbytes for states in item.states.values())
        self._free -= self._with_states[id]
        while self._free < 0 and self._with_states:
            oldest = next(iter(self._with_states))
            self._free += self._with_states.pop(oldest)
            self._items[oldest] = replace(self._items[oldest], states={})


@torch.no_grad()
def _prepared(backbone: Backbone, row: Row) -> Prepared:
    batch = collate([row])
    states, outputs = backbone.base(batch, row.compared)
    unasked = outputs.new_full((len(batch.tokens),), torch.nan, dtype=torch.float32)
    logprobs = backbone.token_logprobs(outputs, batch) if row.compared else unasked
    states.pop(0, None)  # words by their numbers, sooner looked up again than kept
    kept = {layer: entering[: len(row)].clone() for layer, entering in states.items()}  # without fillers
    return Prepared(row, kept, sum_by_response(logprobs, batch), logprobs)


@torch.no_grad()
def _lower_alone(backbone: Backbone, row: Row, adapter: str | None) -> Float[Tensor, "seq hidden"]:
    """One row's states, bit by bit as `prepare` makes them."""
    return on_one_thread(partial(backbone.lower, collate([row]), adapter))


def log_ratios(
    backbone: Backbone,
    rows: Sequence[Row],
    store: PreparedStore,
    adapter: str | None,
    token_budget: int = 2048,
    temperature: float = 1.0,
) -> dict[str, PerResponse]:
    """log(adapter / base) of each response by row id, nats: one number a response, in the row's order.

    `temperature`: of both distributions, such as the one that samples were drawn at.
    """
    both = log_likelihoods(backbone, rows, store, adapter, token_budget, temperature)
    return {id: policy - base for id, (policy, base) in both.items()}


@torch.no_grad()
def log_likelihoods(
    backbone: Backbone,
    rows: Sequence[Row],
    store: PreparedStore,
    adapter: str | None,
    token_budget: int = 2048,
    temperature: float = 1.0,
) -> dict[str, tuple[PerResponse, PerResponse]]:
    """log adapter(y) and log base(y) of each response by row id, nats; otherwise as `log_ratios`."""
    store.prepare(backbone, rows)

    def said(who: str | None) -> Iterator[tuple[Batch, PerResponse]]:
        return batchwise(
            backbone, rows, store, who, partial(_tempered, backbone, who, temperature), token_budget
        )

    base = {id: store[id].reference for id in (row.id for row in rows)}
    if temperature != 1:
        base = dict(by_row(said(None)))
    return {id: (policy, base[id]) for id, policy in by_row(said(adapter))}


def by_row(found: Iterable[tuple[Batch, PerResponse]]) -> Iterator[tuple[str, PerResponse]]:
    """The responses of each row, by its id."""
    for batch, values in found:
        yield from zip(batch.ids, values.split(batch.responses), strict=True)


def batchwise(
    backbone: Backbone,
    rows: Sequence[Row],
    store: PreparedStore,
    adapter: str | None,
    work: Callable[[tuple[Batch, States]], Made],
    token_budget: int,
) -> Iterator[tuple[Batch, Made]]:
    """What `work` makes of each batch and of what enters the adapter's first layer; states exist for as many at once as work."""
    cuts, workers = cut(rows, token_budget, backbone.device)
    for start in range(0, len(cuts), workers):
        tasks = [(batch, store.states(backbone, batch, adapter)) for batch in cuts[start : start + workers]]
        with backbone.worn(adapter):
            done = list(side_by_side(work, tasks, workers))
        yield from zip(cuts[start : start + workers], done, strict=True)


@torch.no_grad()
def _tempered(
    backbone: Backbone, adapter: str | None, temperature: float, task: tuple[Batch, States]
) -> PerResponse:
    batch, states = task
    outputs = backbone.upper(states, batch, adapter)
    return sum_by_response(backbone.token_logprobs(outputs / temperature, batch), batch)


def sum_by_response(values: PerToken, batch: Batch) -> PerResponse:
    """Sum per response of a value per response token."""
    return values.new_zeros(batch.count).index_add(0, batch.owners, values)

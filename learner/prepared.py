"""What is computed once an example and serves every epoch, adapter and version after it.

The reference is always base, and the layers below the adapters never change, so neither goes stale.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from learner.backbone import Backbone, PerToken, States
from learner.rows import Batch, Row, batches, collate

PerResponse = Float[Tensor, "responses"]

MOST_WORKERS = 8
"""Each holds the logits of some hundred tokens."""


@dataclass(frozen=True)
class Prepared:
    """The frozen model's view of one row."""

    row: Row
    states: Mapping[int, Float[Tensor, "seq hidden"]]
    """What enters the first layer of each adapter, by layer; empty once dropped for memory."""
    reference: PerResponse
    """Log-probability of each response under base, nats; NaN of a row that nobody compares."""
    tokens: PerToken
    """The same of each token, response by response."""


class PreparedStore:
    """Prepared examples by id. Beyond `max_bytes` of states the oldest lose theirs, and are run again when needed."""

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        self._items: dict[str, Prepared] = {}
        self._with_states: dict[str, int] = {}
        self._free = max_bytes

    def __contains__(self, id: str) -> bool:
        return id in self._items

    def __getitem__(self, id: str) -> Prepared:
        return self._items[id]

    def retain(self, ids: Collection[str]) -> None:
        """Forget all examples but these."""
        self.forget(self._items.keys() - set(ids))

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
        kept = [self._items[id].states.get(layer) if id in self._items else None for id in batch.ids]
        whole = [
            _lower_alone(backbone, batch, i, adapter) if item is None else item for i, item in enumerate(kept)
        ]
        return torch.cat(whole)

    def prepare(self, backbone: Backbone, rows: Iterable[Row], workers: int = MOST_WORKERS) -> None:
        """Run base over the rows that are new, or whose tokens are not what they were. Worth calling as they come in: half
        of a short training is this.

        Each row runs alone, on one thread: in company its last bits would depend on who came at the same time, and a version
        could not be made again (docs/decisions/rows-are-prepared-alone.md). On a CPU up to `workers` rows run side by side,
        as far as torch has threads.
        """
        new = {row.id: row for row in rows if row.id not in self._items or self._items[row.id].row != row}
        for item in _side_by_side(backbone, list(new.values()), workers) if new else ():
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


@contextmanager
def _one_thread() -> Iterator[None]:
    """A single row is too little work to share: threads that wait for each other take longer than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _side_by_side(backbone: Backbone, rows: Sequence[Row], workers: int) -> Iterator[Prepared]:
    workers = min(workers, torch.get_num_threads(), len(rows)) if backbone.device.type == "cpu" else 1
    with _one_thread(), backbone.bare():
        if workers < 2:
            yield from (_prepared(backbone, row) for row in rows)
            return
        with ThreadPoolExecutor(workers, "prepare", torch.set_num_threads, (1,)) as pool:
            yield from pool.map(partial(_prepared, backbone), rows)


@torch.no_grad()
def _prepared(backbone: Backbone, row: Row) -> Prepared:
    batch = collate([row])
    states, outputs = backbone.base(batch, row.compared)
    unasked = outputs.new_full((len(batch.tokens),), torch.nan)
    logprobs = backbone.token_logprobs(outputs, batch) if row.compared else unasked
    return Prepared(row, states, sum_by_response(logprobs, batch), logprobs)


@torch.no_grad()
@_one_thread()
def _lower_alone(
    backbone: Backbone, batch: Batch, index: int, adapter: str | None
) -> Float[Tensor, "seq hidden"]:
    """One row's states, bit by bit as `prepare` makes them."""
    alone = replace(
        batch,
        lengths=batch.lengths[index : index + 1],
        token_ids=batch.token_ids.split(batch.lengths)[index],
        positions=batch.positions.split(batch.lengths)[index],
        masks=batch.masks[index : index + 1],
    )
    return backbone.lower(alone, adapter)


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
    result: dict[str, tuple[PerResponse, PerResponse]] = {}
    for batch in batches(rows, token_budget):
        states = store.states(backbone, batch)
        policy = _tempered(backbone, states, batch, adapter, temperature)
        base = store.reference(batch)
        if temperature != 1:
            base = _tempered(backbone, states, batch, None, temperature)
        sizes = [len(store[id].reference) for id in batch.ids]
        both = zip(policy.split(sizes), base.split(sizes), strict=True)
        result |= dict(zip(batch.ids, both, strict=True))
    return result


def _tempered(
    backbone: Backbone, states: States, batch: Batch, adapter: str | None, temperature: float
) -> PerResponse:
    outputs = backbone.upper(states, batch, adapter)
    return sum_by_response(backbone.token_logprobs(outputs / temperature, batch), batch)


def sum_by_response(values: PerToken, batch: Batch) -> PerResponse:
    """Sum per response of a value per response token."""
    return values.new_zeros(batch.count).index_add(0, batch.owners, values)

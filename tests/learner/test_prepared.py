"""What is prepared depends on the row alone, and is forgotten once no example needs it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from learner.prepared import PreparedStore
from learner.rows import Row, collate
from tests.learner.tiny_llama import tiny_backbone


def rows(count: int) -> list[Row]:
    """Rows of many lengths."""
    rng = random.Random(5)

    def ids(most: int) -> tuple[int, ...]:
        return tuple(rng.randrange(1, 60) for _ in range(rng.randrange(2, most)))

    return [Row(f"r{n:02d}", ids(20), (ids(30), ids(30))) for n in range(count)]


def all_of(store: PreparedStore, made: list[Row]) -> list[torch.Tensor]:
    items = [store[row.id] for row in made]
    return [t for i in items for t in (*i.states.values(), i.reference, i.tokens)]


def test_a_row_is_prepared_the_same_bit_by_bit_in_any_company() -> None:
    made, backbone = rows(12), tiny_backbone(2)
    together, apart = PreparedStore(), PreparedStore()
    together.prepare(backbone, made)
    for part in (made[7:], made[:3], made[3:7]):
        apart.prepare(backbone, part)
    assert all(map(torch.equal, all_of(together, made), all_of(apart, made)))


def test_the_number_of_threads_does_not_matter_and_is_left_alone() -> None:
    made, backbone, before = rows(4), tiny_backbone(2), torch.get_num_threads()
    with torch.no_grad():
        for parameter in backbone.parameters("policy").values():
            parameter.fill_(0.1)  # an adapter that was on would be seen
    stores = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            stores.append(PreparedStore())
            stores[-1].prepare(backbone, made)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *(all_of(store, made) for store in stores)))
    assert torch.allclose(stores[0][made[0].id].tokens, backbone.logprobs(collate(made[:1]), None))


def test_a_row_that_fails_leaves_threads_and_adapters_as_they_were() -> None:
    made, backbone, before = rows(6), tiny_backbone(2), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(IndexError):
            PreparedStore().prepare(backbone, [*made[:3], Row("bad", (10**6,), ((1,),)), *made[3:]])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    with torch.no_grad():
        for parameter in backbone.parameters("policy").values():
            parameter.fill_(0.1)
    batch = collate(made[:1])
    assert not torch.allclose(backbone.logprobs(batch, "policy"), backbone.logprobs(batch, None))


def test_states_that_were_dropped_for_memory_come_back_the_same_bit_by_bit() -> None:
    made, backbone = rows(6), tiny_backbone(2)
    kept, tight = PreparedStore(), PreparedStore(max_bytes=1)
    kept.prepare(backbone, made)
    tight.prepare(backbone, made)
    batch = collate(made)
    assert tight[made[0].id].states == {}
    assert torch.equal(tight.states(backbone, batch), kept.states(backbone, batch))


@pytest.mark.parametrize("kept", [set(), {"r00", "r02"}])
def test_what_is_not_retained_is_gone_and_its_memory_free(kept: set[str]) -> None:
    made, backbone = rows(4), tiny_backbone(2)
    store = PreparedStore()
    store.prepare(backbone, made)
    store.retain(kept)
    assert [row.id for row in made if row.id in store] == sorted(kept)


def test_of_a_row_that_nobody_compares_only_the_lower_layers_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, store = tiny_backbone(2), PreparedStore()
    (row,) = rows(1)
    whole = PreparedStore()
    whole.prepare(backbone, [row])
    monkeypatch.setattr(backbone, "token_logprobs", None)
    store.prepare(backbone, [replace(row, compared=False)])
    assert torch.equal(store[row.id].states[2], whole[row.id].states[2])
    assert store[row.id].reference.isnan().all() and len(store[row.id].tokens) == len(whole[row.id].tokens)
    monkeypatch.undo()
    store.prepare(backbone, [row])
    assert torch.equal(store[row.id].reference, whole[row.id].reference)

"""Grouped LoRA on CPU against the plain formula, row by row; no engine is started."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.vllm_plugin import WRAPPER, punica
from serving.vllm_plugin.packing import pack
from serving.vllm_plugin.punica import SPARSE, Group, GroupedPunicaWrapper, group_rows

SLOTS, RANK, IN = 4, 3, 5
SLICES = (6, 2, 2)  # q, k, v of grouped-query attention: unequal widths


class Mapping:
    """What vLLM hands over: a LoRA id per token (0 = none) and per sampled row."""

    def __init__(self, ids: list[int], is_prefill: bool) -> None:
        self.index_mapping = self.prompt_mapping = tuple(ids)
        self.is_prefill = is_prefill


def wrapper(ids: list[int], is_prefill: bool = True) -> GroupedPunicaWrapper:
    """LoRA ids 11..14 lie in slots 0..3."""
    made = GroupedPunicaWrapper(64, max_batches=64, device="cpu")
    made.update_metadata(Mapping(ids, is_prefill), [11, 12, 13, 14], SLOTS + 1, 100)
    return made


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every batch that was grouped."""
    rows: list[int] = []

    def counting(indices: torch.Tensor) -> list[punica.Group]:
        rows.append(len(indices))
        return group_rows(indices)

    monkeypatch.setattr(punica, "group_rows", counting)
    return rows


def weights(dtype: torch.dtype = torch.float32, slices: tuple[int, ...] = SLICES):
    torch.manual_seed(0)
    a = tuple(torch.randn(SLOTS, 1, RANK, IN, dtype=dtype) for _ in slices)
    b = tuple(torch.randn(SLOTS, 1, width, RANK, dtype=dtype) for width in slices)
    return a, b


def expected(y, x, ids, a, b, slices=SLICES):
    """yᵢ[slice] + B (A xᵢ) for the slot of row i, one row and one slice at a time."""
    out = y.clone()
    for i, lora_id in enumerate(ids):
        start = 0
        for a_s, b_s, width in zip(a, b, slices, strict=True):
            if lora_id:
                out[i, start : start + width] += b_s[lora_id - 11, 0] @ (a_s[lora_id - 11, 0] @ x[i])
            start += width
    return out


@settings(deadline=None, max_examples=80)
@given(st.data(), st.sampled_from((torch.float32, torch.bfloat16)), st.booleans())
def test_random_shapes_agree_with_float64_within_rounding(data: st.DataObject, dtype, is_prefill) -> None:
    """Each result is off by a few roundings (eps) of the largest number on its way: |y| + |B| (|A| |x|).

    Three roundings on the way (after A, after B, the sum), and a bit for the order of additions.
    """
    ids = data.draw(st.lists(st.sampled_from((0, 11, 12, 13, 14)), min_size=1, max_size=24))
    slices = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    rank, width = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 40))
    torch.manual_seed(data.draw(st.integers(0, 9)))
    a = tuple(torch.randn(SLOTS, 1, rank, width).to(dtype) for _ in slices)
    b = tuple(torch.randn(SLOTS, 1, out, rank).to(dtype) for out in slices)
    x, y = torch.randn(len(ids), width).to(dtype), torch.randn(len(ids), sum(slices)).to(dtype)
    a64, b64 = [m.double() for m in a], [m.double() for m in b]
    wanted, before = expected(y.double(), x.double(), ids, a64, b64, slices), y.clone()
    largest = expected(
        y.double().abs(), x.double().abs(), ids, [m.abs() for m in a64], [m.abs() for m in b64], slices
    )
    wrapper(ids, is_prefill).add_lora_linear(y, x, a, b, 1.0, slices)
    steps = 4 if dtype == torch.bfloat16 else 64
    assert ((y.double() - wanted).abs() <= steps * torch.finfo(dtype).eps * largest).all()
    base = [i for i, lora_id in enumerate(ids) if lora_id == 0]
    assert torch.equal(y[base], before[base]), "a row without an adapter keeps its bits"


def test_base_row_does_not_read_the_last_slot() -> None:
    """The fault that this file exists for: index −1 means nobody, not weights[-1]."""
    a, b = weights()
    b[0][SLOTS - 1] = 1e6
    x, y = torch.randn(3, IN), torch.zeros(3, sum(SLICES))
    wrapper([0, 11, 0]).add_lora_linear(y, x, a, b, 1.0, SLICES)
    assert y[[0, 2]].abs().max() == 0
    assert 0 < y[1].abs().max() < 1e3


def test_gate_and_up_are_two_slices_of_one_output() -> None:
    slices = (4, 4)
    a, b = weights(slices=slices)
    ids = [12, 0, 11, 12]
    x, y = torch.randn(4, IN), torch.randn(4, 8)
    wanted = expected(y, x, ids, a, b, slices)
    wrapper(ids).add_lora_linear(y, x, a, b, 1.0, slices)
    assert (y - wanted).abs().max() <= 1e-5 * (1 + wanted.abs().max())


def test_what_vllm_writes_into_a_slot_later_is_what_is_multiplied_with() -> None:
    """Packing moves the slots once; an adapter loaded afterwards goes through vLLM's own tensors."""
    a, b = weights()
    made, x = wrapper([12]), torch.randn(1, IN)
    made.add_lora_linear(torch.zeros(1, sum(SLICES)), x, a, b, 1.0, SLICES)
    a[1][1, 0, :2].copy_(torch.full((2, IN), 0.5))
    b[2][1] = 0
    y, wanted = torch.zeros(1, sum(SLICES)), expected(torch.zeros(1, sum(SLICES)), x, [12], a, b)
    made.add_lora_linear(y, x, a, b, 1.0, SLICES)
    torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-5)


def test_packing_keeps_shapes_values_and_one_copy() -> None:
    a, b = weights()
    before = [part.clone() for part in (*a, *b)]
    packed = pack(a, b)
    assert all(torch.equal(now, then) for now, then in zip((*a, *b), before, strict=True))
    assert packed.a.shape == (SLOTS, IN, 3 * RANK) and packed.b.shape == (SLOTS, 3 * RANK, sum(SLICES))
    assert {part.untyped_storage().data_ptr() for part in (*a, *b)} == {
        packed.a.untyped_storage().data_ptr(), packed.b.untyped_storage().data_ptr()
    }  # fmt: skip


def test_groups_are_made_once_a_batch_and_not_once_a_layer(counted: list[int]) -> None:
    a, b = weights()
    made = wrapper([11, 0, 12])
    for _ in range(30):
        made.add_lora_linear(torch.zeros(3, sum(SLICES)), torch.randn(3, IN), a, b, 1.0, SLICES)
    assert counted == [3]


def test_sharded_operations_are_refused() -> None:
    made = wrapper([11])
    with pytest.raises(NotImplementedError, match="fully_sharded_loras"):
        made.add_shrink()
    with pytest.raises(NotImplementedError, match="fully_sharded_loras"):
        made.add_expand()


def test_groups_follow_a_new_batch_and_a_new_slot_layout() -> None:
    made = wrapper([11, 12])
    assert [group.slot for group in made.groups] == [0, 1]
    made.update_metadata(Mapping([12, 12], False), [12, 11, None, None], SLOTS + 1, 100)
    assert made.groups == [Group(0, slice(0, 2))]


def test_rows_are_multiplied_where_they_lie_unless_they_lie_far_apart() -> None:
    sparse, near, together = group_rows(torch.tensor([0] + [2] * (2 * SPARSE) + [-1, 1, 2, 1, 0]))
    assert (sparse.slot, sparse.others) == (0, None) and sparse.rows is not None
    assert sparse.rows.tolist() == [0, 2 * SPARSE + 5]
    assert (near.slot, near.span, near.rows) == (1, slice(2 * SPARSE + 2, 2 * SPARSE + 5), None)
    assert near.others is not None and near.others.flatten().tolist() == [False, True, False]
    assert (together.slot, together.span) == (2, slice(1, 2 * SPARSE + 4)) and together.others is not None
    assert group_rows(torch.tensor([-1, 2, 2])) == [Group(2, slice(1, 3))]
    assert group_rows(torch.tensor([-1, -1])) == []


@pytest.mark.parametrize("between", [1, 2 * SPARSE], ids=["masked", "gathered"])
def test_a_neighbour_that_overflows_harms_nobody(between: int) -> None:
    """A row between two of another slot: what it would give with their weights is not finite, and is not its own."""
    a, b = weights()
    ids = [11, *[0] * between, 11]
    x, y = torch.randn(len(ids), IN), torch.zeros(len(ids), sum(SLICES))
    x[1] = torch.finfo(torch.float32).max * a[0][0, 0, 0].sign()
    assert not (a[0][0, 0] @ x[1]).isfinite().all()
    wanted = expected(y, x, ids, a, b)
    wrapper(ids).add_lora_linear(y, x, a, b, 1.0, SLICES)
    torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-5)
    assert not y[1 : 1 + between].any() and y[0].any() and y[-1].any()


def test_logits_and_embeddings_are_left_alone() -> None:
    made = wrapper([11])
    y = torch.randn(1, 8)
    before = y.clone()
    made.add_lora_logits(y, torch.randn(1, IN), torch.randn(4, 1, 3, IN), torch.randn(4, 1, 8, 3), 1.0)
    made.add_lora_embedding(y, torch.randn(1, 3), torch.randn(4, 1, 8, 3))
    assert torch.equal(y, before)


def test_the_name_that_the_start_check_looks_for_is_this_class() -> None:
    assert f"{GroupedPunicaWrapper.__module__}.{GroupedPunicaWrapper.__qualname__}" == WRAPPER

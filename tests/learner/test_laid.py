"""Base's matrices in the processor's order: the same bits, for as long as they are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn.functional import linear

from learner import backbone as backbone_module
from learner import packed, prepared
from learner.backbone import Backbone
from learner.kernels import TokenLogprobs, head, laid, laid_words, linears
from learner.lora import LoraShape
from learner.prepared import PreparedStore
from learner.rows import Row
from learner.workers import on_one_thread
from tests.learner.test_prepared import all_of, rows
from tests.learner.tiny_llama import tiny_model

needed = pytest.mark.skipif(not laid.available(), reason="this processor has no order of its own")


def half() -> Backbone:
    return Backbone.load(tiny_model(), LoraShape(rank=4, alpha=8.0, first_layer=2), dtype=torch.bfloat16)


def copies(backbone: Backbone) -> int:
    return sum(pack._laid is not None for pack in backbone._lean.packed) + len(backbone._words)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Of every product of base, whether it had a copy."""
    seen = list[bool]()

    def product(*given: torch.Tensor | None) -> torch.Tensor:
        seen.append(given[3] is not None)
        return laid.product(*given)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(linears, "product", product)
    monkeypatch.setattr(head, "product", product)
    return seen


@needed
@pytest.mark.parametrize(
    ("width", "out"), [(576, 960), (576, 576), (576, 3072), (1536, 576), (576, 2048), (48, 96)]
)
def test_a_product_has_the_same_bits_whatever_its_rows(width: int, out: int) -> None:
    g = torch.Generator().manual_seed(out)
    wide = torch.randn(out, width + 48, generator=g).bfloat16()
    bias = torch.randn(out, generator=g).bfloat16()
    weight = wide[:, :width]  # a part of something wider, as a learner's are
    ordered = laid.laid(weight)
    assert ordered is not None

    def same(x: torch.Tensor, added: torch.Tensor | None) -> bool:
        return torch.equal(laid.product(x, weight, added, ordered), linear(x, weight, added))

    for count in (1, 7, 16, 112, 160, 320, 512, 1000):
        x = torch.randn(count, width, generator=g).bfloat16()
        assert on_one_thread(partial(same, x, None)) and on_one_thread(partial(same, x, bias))


def test_other_precisions_have_no_such_order() -> None:
    assert laid.laid(torch.randn(8, 8)) is None


@needed
def test_where_the_bits_would_differ_there_is_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    laid._same_bits.cache_clear()
    monkeypatch.setattr(laid, "product", lambda x, weight, *_: linear(x, weight) + 1)
    assert laid.laid(torch.randn(8, 8).bfloat16()) is None
    laid._same_bits.cache_clear()


@needed
def test_each_slice_of_words_has_its_own_copy() -> None:
    g = torch.Generator().manual_seed(1)
    hidden, weight = (torch.randn(n, 32, generator=g).bfloat16() for n in (20, 2 * head.WORDS + 100))
    targets = torch.randint(len(weight), (20,), generator=g)
    with torch.no_grad():
        plain = TokenLogprobs.apply(hidden, weight, targets)
        assert torch.equal(TokenLogprobs.apply(hidden, weight, targets, laid_words(weight)), plain)


@needed
def test_many_rows_are_prepared_by_it_and_as_each_alone(asked: list[bool]) -> None:
    made, backbone = rows(prepared.MANY), half()
    together, apart = PreparedStore(), PreparedStore()
    for row in made:
        apart.prepare(backbone, [row])
    assert asked and not any(asked), "one row is not worth a copy of everything"
    asked.clear()
    together.prepare(backbone, made)
    assert asked and all(asked) and copies(backbone) == 0
    assert all(map(torch.equal, all_of(together, made), all_of(apart, made)))


def test_rows_that_nobody_compares_are_not_worth_it(asked: list[bool]) -> None:
    PreparedStore().prepare(half(), [replace(row, compared=False) for row in rows(prepared.MANY)])
    assert not any(asked)


def test_a_large_base_is_not_there_twice(asked: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone_module, "MOST_COPIED", 1000)
    PreparedStore().prepare(half(), rows(prepared.MANY))
    assert asked and not any(asked)


def test_a_row_that_fails_leaves_no_copies() -> None:
    backbone = half()
    with pytest.raises(IndexError):
        PreparedStore().prepare(backbone, [*rows(prepared.MANY), Row("bad", (10**6,), ((1,),))])
    assert copies(backbone) == 0


def test_copying_that_fails_leaves_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, whole = half(), packed.laid
    monkeypatch.setattr(backbone._lean.packed[-1], "lay", lambda on: whole(None) if on else None)
    with pytest.raises(AttributeError):
        PreparedStore().prepare(backbone, rows(prepared.MANY))
    assert copies(backbone) == 0

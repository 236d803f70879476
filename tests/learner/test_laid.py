"""Base's matrices in the processor's order: the same bits, for as long as they are wanted."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear

from learner import prepared
from learner.backbone import Backbone, LoraShape
from learner.kernels.laid import laid, product
from learner.prepared import PreparedStore
from learner.rows import Row
from tests.learner.test_prepared import all_of, rows
from tests.learner.tiny_llama import tiny_model

HALF = torch.ops.mkldnn._is_mkldnn_bf16_supported()


def half() -> Backbone:
    return Backbone.load(tiny_model(), LoraShape(rank=4, alpha=8.0, first_layer=2), dtype=torch.bfloat16)


def copies(backbone: Backbone) -> int:
    return sum(pack._laid is not None for pack in backbone._packed) + len(backbone._words)


@pytest.mark.parametrize("count", [1, 7, 160, 700])
@pytest.mark.parametrize("bias", [None, torch.randn(96, generator=torch.manual_seed(1)).bfloat16()])
def test_a_product_has_the_same_bits(count: int, bias: torch.Tensor | None) -> None:
    g = torch.Generator().manual_seed(count)
    x, wide = (torch.randn(*size, generator=g).bfloat16() for size in ((count, 48), (96, 56)))
    weight = wide[:, :48]  # a part of something wider, as a learner's are
    assert torch.equal(product(x, weight, bias, laid(weight)), linear(x, weight, bias))


def test_other_precisions_have_no_such_order() -> None:
    weight = torch.randn(8, 8)
    assert laid(weight) is None
    assert torch.equal(product(weight, weight), linear(weight, weight))


def test_many_rows_are_prepared_by_it_and_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made, backbone, seen = rows(prepared.MANY), half(), set[int]()
    together, apart = PreparedStore(), PreparedStore()
    ask = backbone.token_logprobs
    monkeypatch.setattr(backbone, "token_logprobs", lambda *a: seen.add(copies(backbone)) or ask(*a))
    for row in made:
        apart.prepare(backbone, [row])
    assert seen == {0}, "one row is not worth a copy of everything"
    together.prepare(backbone, made)
    assert seen == ({0, len(backbone._packed) + 1} if HALF else {0, 1})
    assert copies(backbone) == 0
    assert all(map(torch.equal, all_of(together, made), all_of(apart, made)))


def test_a_row_that_fails_leaves_no_copies() -> None:
    backbone = half()
    with pytest.raises(IndexError):
        PreparedStore().prepare(backbone, [*rows(prepared.MANY), Row("bad", (10**6,), ((1,),))])
    assert copies(backbone) == 0

"""Our losses and gradients are TRL's, on one tiny Llama with one adapter, in float32, within 1e-5 relative.

Ours run over shared-prefix rows with hand-written gradients; TRL's over separate padded rows and autograd. Where the
two differ on purpose, docs/maths.md says so ("Against TRL").
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from learner.backbone import Backbone
from learner.lessons import Lesson
from learner.losses import (
    Both,
    DpoForm,
    Variant,
    bradley_terry,
    centring,
    desensitised,
    dpo,
    kto,
    reference_point,
    sft,
)
from learner.mixture import Terms, batch_loss
from learner.prepared import PreparedStore, sum_by_response
from learner.rows import Row, collate
from tests.learner.tiny_llama import VOCABULARY, tiny_backbone

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tests.learner import trl_trainers as trl

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
Gradients = dict[str, Tensor]


@pytest.fixture
def backbone() -> Backbone:
    """An adapter that has learned something: B is not zero."""
    made, g = tiny_backbone(), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in made.parameters("policy").items():
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=g)
    return made


def some_tokens(count: int, g: torch.Generator) -> tuple[int, ...]:
    return tuple(torch.randint(1, VOCABULARY, (count,), generator=g).tolist())  # 0 is padding


@pytest.fixture
def rows() -> list[Row]:
    """Pairs of unlike lengths."""
    g = torch.Generator().manual_seed(8)
    return [
        Row(str(i), some_tokens(4 + 3 * i, g), (some_tokens(6, g), some_tokens(3 + 2 * i, g)))
        for i in range(4)
    ]


def ours(backbone: Backbone, loss: Tensor) -> tuple[float, Gradients]:
    loss.backward()
    found = {n.replace(".policy", ""): p.grad for n, p in backbone.parameters("policy").items()}
    return loss.item(), {name: grad for name, grad in found.items() if grad is not None}


def assert_same(one: tuple[float, Gradients], other: tuple[float, Gradients]) -> None:
    """Loss, and every tensor of the gradient against the largest entry of the whole, within 1e-5."""
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert one[1].keys() == other[1].keys()
    assert len(one[1]) == 4 * 7 * 2  # layers, targets, A and B
    scale = max(grad.abs().max().item() for grad in other[1].values())
    assert scale > 1e-4
    for name, grad in other[1].items():
        assert (one[1][name] - grad).abs().max().item() <= 1e-5 * scale, name


def as_pairs(rows: list[Row]) -> list[dict[str, Any]]:
    keys = ("prompt_ids", "chosen_ids", "rejected_ids")
    return [dict(zip(keys, map(list, (r.prompt, *r.responses)), strict=True)) for r in rows]


def two_columns(values: Tensor) -> Both:
    return Both(*values.view(-1, 2).unbind(1))


@pytest.fixture
def quiet() -> Iterator[None]:
    """transformers and accelerate say much about small machines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def our_dpo(
    backbone: Backbone, rows: list[Row], form: DpoForm, alpha: float = 1.0
) -> tuple[float, Gradients]:
    batch = collate(rows)
    lengths = torch.bincount(batch.owners).view(-1, 2)
    policy = desensitised(backbone.logprobs(batch, "policy"), lengths, alpha)
    with torch.no_grad():
        reference = desensitised(backbone.logprobs(batch, None), lengths, alpha)
    loss = dpo(two_columns(policy), two_columns(reference), form, lengths=two_columns(lengths.float())).loss
    return ours(backbone, loss)


@pytest.mark.parametrize(
    ("variant", "flips", "alpha"),
    [
        ("sigmoid", 0.0, 1.0),
        pytest.param("sigmoid", 0.0, 0.3, marks=pytest.mark.slow),
        pytest.param("robust", 0.2, 1.0, marks=pytest.mark.slow),
        pytest.param("ipo", 0.0, 1.0, marks=pytest.mark.slow),
    ],
)
def test_dpo_is_trls(
    backbone: Backbone,
    rows: list[Row],
    tmp_path: Path,
    quiet: None,
    variant: Variant,
    flips: float,
    alpha: float,
) -> None:
    settings = {"beta": 0.3, "loss_type": variant, "label_smoothing": flips}
    length = {"ld_alpha": alpha} if alpha < 1 else {}
    model = trl.with_adapter(backbone, tmp_path)
    judge = trl.trainer(trl.DPOTrainer, model, tmp_path, with_reference=True, **settings, **length)
    theirs = trl.loss_and_gradients(judge, as_pairs(rows))
    assert_same(our_dpo(backbone, rows, DpoForm(0.3, variant, flips), alpha), theirs)


@pytest.mark.slow
def test_dpo_with_sft_is_trls(backbone: Backbone, rows: list[Row], tmp_path: Path, quiet: None) -> None:
    """All chosen responses have 6 tokens: TRL's mean over tokens is then the mean over responses, which is ours."""
    batch, store = collate(rows), PreparedStore()
    store.prepare(backbone, rows)
    terms = Terms(DpoForm(0.3), 1.0, torch.zeros(()), (1.0, 1.0), sft_weight=0.7)
    lessons, weights = [Lesson(row, "pair", 1.0) for row in rows], torch.full((len(rows),), 1 / len(rows))
    loss, _ = batch_loss(backbone.logprobs(batch, "policy"), batch, lessons, weights, terms, store)
    settings = {"beta": 0.3, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]}
    model = trl.with_adapter(backbone, tmp_path)
    judge = trl.trainer(trl.DPOTrainer, model, tmp_path, with_reference=True, **settings)
    assert_same(ours(backbone, loss), trl.loss_and_gradients(judge, as_pairs(rows)))


@pytest.mark.parametrize(
    "ups",
    [
        [True, False, True, True],
        pytest.param([True] * 4, marks=pytest.mark.slow),
        pytest.param([False] * 4, marks=pytest.mark.slow),
    ],
)
def test_kto_is_trls(
    backbone: Backbone, rows: list[Row], tmp_path: Path, quiet: None, ups: list[bool]
) -> None:
    firsts = [Row(row.id, row.prompt, row.responses[:1]) for row in rows]
    # TRL's mismatched pairs: each prompt with the response before it in the batch
    mixed = [Row(row.id, row.prompt, firsts[i - 1].responses) for i, row in enumerate(firsts)]
    batch, other = collate(firsts), collate(mixed)
    with torch.no_grad():
        drift = sum_by_response(backbone.logprobs(other, "policy") - backbone.logprobs(other, None), other)
        reference = sum_by_response(backbone.logprobs(batch, None), batch)
    ratios = sum_by_response(backbone.logprobs(batch, "policy"), batch) - reference
    loss = kto(ratios, torch.tensor(ups), 0.3, reference_point(drift), (1.2, 1.5)).loss

    model = trl.with_adapter(backbone, tmp_path)
    weights = {"desirable_weight": 1.2, "undesirable_weight": 1.5}
    judge = trl.trainer(trl.KTOTrainer, model, tmp_path, with_reference=True, beta=0.3, **weights)
    examples = [
        {
            "prompt_ids": list(row.prompt),
            "completion_ids": list(row.responses[0]),
            "KL_completion_ids": list(mixed[i].responses[0]),
            "label": ups[i],
        }
        for i, row in enumerate(firsts)
    ]
    assert_same(ours(backbone, loss), trl.loss_and_gradients(judge, examples))


def test_the_reference_point_is_not_trivial(backbone: Backbone, rows: list[Row]) -> None:
    """Otherwise the comparison above would say nothing of z0."""
    batch = collate([Row(r.id, r.prompt, rows[i - 1].responses[:1]) for i, r in enumerate(rows)])
    with torch.no_grad():
        drift = sum_by_response(backbone.logprobs(batch, "policy") - backbone.logprobs(batch, None), batch)
    assert reference_point(drift).item() > 0.01


@pytest.mark.parametrize(
    ("centre", "margins"),
    [
        (0.1, [0.1, 0.5, 0.0, 1.0]),
        pytest.param(0.0, None, marks=pytest.mark.slow),
    ],
)
def test_reward_loss_is_trls(
    backbone: Backbone,
    rows: list[Row],
    tmp_path: Path,
    quiet: None,
    centre: float,
    margins: list[float] | None,
) -> None:
    head = torch.randn(backbone.hidden_size, generator=torch.Generator().manual_seed(6))
    batch = collate(rows)
    last = batch.tokens[torch.bincount(batch.owners).cumsum(0) - 1]
    rewards = two_columns(backbone.upper(backbone.lower(batch), batch, "policy")[last] @ head)
    loss = bradley_terry(*rewards, margin=torch.tensor(margins or [0.0] * 4)).loss + centre * centring(
        *rewards
    )

    settings = {"center_rewards_coefficient": centre} if centre else {}
    judge = trl.trainer(trl.RewardTrainer, trl.classifier(backbone, head), tmp_path, **settings)
    keys = ("chosen_ids", "rejected_ids")
    examples = [dict(zip(keys, [list(r.prompt + y) for y in r.responses], strict=True)) for r in rows]
    if margins:
        examples = [e | {"margin": m} for e, m in zip(examples, margins, strict=True)]
    assert_same(ours(backbone, loss), trl.loss_and_gradients(judge, examples))


def test_sft_is_trls(backbone: Backbone, rows: list[Row], tmp_path: Path, quiet: None) -> None:
    batch = collate(rows)
    summed = sum_by_response(backbone.logprobs(batch, "policy"), batch)
    loss = sft(summed, torch.bincount(batch.owners).float()).loss

    judge = trl.trainer(trl.SFTTrainer, trl.with_adapter(backbone, tmp_path), tmp_path)
    examples = [
        {
            "input_ids": list(row.prompt + response),
            "labels": [-100] * len(row.prompt) + list(response),
        }
        for row in rows
        for response in row.responses
    ]
    assert_same(ours(backbone, loss), trl.loss_and_gradients(judge, examples))

"""One step on pairs, thumbs and demonstrations: each kind's loss as if alone, weighted as stated, and all learn."""

from __future__ import annotations

from dataclasses import replace
from math import isnan, log

import pytest
import torch

from feedback.examples import Demonstration, Example, Preference, Thumb
from learner.dpo import DpoSettings, train_policy
from learner.examples import rows_of
from learner.lessons import lessons_of
from learner.losses import DpoForm
from learner.metrics import Measured, Progress
from learner.mixture import Mixture, Terms, batch_loss, drift
from learner.prepared import PreparedStore, log_ratios
from learner.rows import collate, make_row
from tests.learner.tiny_llama import pairs, tiny_backbone

SETTINGS = DpoSettings(learning_rate=5e-3, epochs=3, batch_pairs=8, token_budget=200)


def common(p: Preference, suffix: str) -> dict:
    fields = ("event_ids", "prompt_ids", "user", "conversation", "time", "source")
    return {name: getattr(p, name) for name in fields} | {"id": p.id + suffix}


def thumbs(count: int, seed: int = 3) -> list[Thumb]:
    """The favourite token is liked, its absence disliked."""
    made = []
    for p in pairs(count, seed=seed):
        made.append(Thumb(**common(p, "+"), response_ids=p.chosen_ids, up=True))
        made.append(Thumb(**common(p, "-"), response_ids=p.rejected_ids, up=False))
    return made


def demonstrations(count: int) -> list[Demonstration]:
    return [Demonstration(**common(p, "!"), response_ids=p.chosen_ids) for p in pairs(count)]


def train(examples: list[Example], settings: DpoSettings = SETTINGS):
    backbone, store = tiny_backbone(2), PreparedStore()
    update = train_policy(backbone, examples, [1.0] * len(examples), settings, store)
    return backbone, store, update


def raised(backbone, store, count: int = 20) -> float:
    """By how much new chosen responses have risen over new rejected ones, nats."""
    ratios = log_ratios(backbone, rows_of(pairs(count, seed=4), 99)[0], store, "policy")
    return float(torch.stack([r[0] - r[1] for r in ratios.values()]).mean())


def one_pair_at_base(terms: Terms) -> tuple[torch.Tensor, torch.Tensor, Measured]:
    """Of a pair of 9 chosen and 8 rejected tokens: base's log-probabilities with the loss's gradient, and the loss."""
    backbone, store = tiny_backbone(2), PreparedStore()
    (pair,) = pairs(1)
    lessons, _ = lessons_of([pair], {pair.id: 1.0}, 99)
    store.prepare(backbone, [lessons[0].row])
    batch = collate([lessons[0].row])
    logprobs = store.token_reference(batch).clone().requires_grad_()
    loss, measured = batch_loss(logprobs, batch, lessons, torch.ones(1), terms, store)
    loss.backward()
    return logprobs, loss, measured


def test_thumbs_alone_teach_the_taste():
    backbone, store, update = train([*thumbs(24)])
    assert (update.pairs, update.steps) == (48, 18)
    assert update.first.loss <= 0.5 + 1e-6 and update.last.accuracy > 0.8
    assert raised(backbone, store) > 1


def test_demonstrations_alone_make_the_shown_likelier():
    backbone, store, update = train([*demonstrations(24)])
    assert update.last.loss < update.first.loss
    assert isnan(update.last.accuracy)  # nothing was judged
    assert raised(backbone, store) > 1


def test_one_step_holds_every_kind():
    examples = [*pairs(4), *thumbs(2, seed=5), *demonstrations(4)]
    backbone, store, update = train(examples, replace(SETTINGS, epochs=1, batch_pairs=99))
    assert (update.pairs, update.steps) == (12, 1)
    # a fresh adapter is base: pairs cost log 2 and thumbs 1/2 each, demonstrations their nats a token
    rows = [make_row(d.id, d.prompt_ids, (d.response_ids,), 99) for d in demonstrations(4)]
    store.prepare(backbone, rows)
    shown = [-float(store[r.id].reference[0]) / len(r.responses[0]) for r in rows]
    assert update.first.loss == pytest.approx((4 * log(2) + 4 * 0.5 + sum(shown)) / 12, rel=1e-5)


def test_a_kind_without_weight_teaches_nothing():
    mixed = [*pairs(8), *demonstrations(8)]
    settings = replace(SETTINGS, epochs=1, batch_pairs=99)
    with_none = train(mixed, replace(settings, mixture=Mixture(demonstrations=0.0)))[0].state("policy")
    alone = train([*pairs(8)], settings)[0].state("policy")
    # Adam's first step does not depend on the gradient's size, which clipping and shares change
    assert all(torch.allclose(alone[name], with_none[name], atol=2e-4) for name in alone)


def test_micro_batches_do_not_change_a_mixed_step():
    examples = [*pairs(6), *thumbs(3, seed=5), *demonstrations(6)]
    settings = replace(SETTINGS, epochs=1, batch_pairs=6)
    whole, cut = (
        train(examples, replace(settings, token_budget=budget))[0].state("policy") for budget in (10_000, 64)
    )
    assert all(torch.allclose(whole[name], cut[name], atol=2e-4) for name in whole)


def test_the_weights_of_kinds_scale_their_gradients():
    backbone, store = tiny_backbone(2), PreparedStore()
    examples: list[Example] = [*pairs(2), *thumbs(1, seed=5), *demonstrations(2)]
    lessons, _ = lessons_of(examples, {e.id: 1.0 for e in examples}, 99)
    rows = [x.row for x in lessons]
    store.prepare(backbone, rows)
    batch = collate(rows)
    terms = Terms(DpoForm(0.1), 1.0, torch.zeros(()), (1.0, 1.0))

    def slopes(*weights: float) -> torch.Tensor:
        logprobs = store.token_reference(batch).clone().requires_grad_()
        batch_loss(logprobs, batch, lessons, torch.tensor(weights), terms, store)[0].backward()
        assert logprobs.grad is not None
        return torch.stack([logprobs.grad[batch.owners == owner].mean() for owner in range(batch.count)])

    got = slopes(1, 2, 1, 1, 1, 3)
    # at base: pairs -+ beta / 2, thumbs -+ beta / 4, demonstrations -1 / tokens; times the weights
    tokens = [len(lesson.row.responses[0]) for lesson in lessons]
    want = [-0.05, 0.05, -0.1, 0.1, -0.025, 0.025, -1 / tokens[4], -3 / tokens[5]]
    assert got.tolist() == pytest.approx(want, rel=1e-4)


def test_length_alpha_halves_the_pull_on_the_longer_ones_tail():
    logprobs, _, _ = one_pair_at_base(Terms(DpoForm(0.1), 0.5, torch.zeros(()), (1.0, 1.0)))
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-0.05] * 8 + [-0.025] + [0.05] * 8)


def test_sft_on_what_was_chosen_pulls_its_tokens_and_none_of_the_other():
    """At base: DPO pulls each chosen token by beta / 2, SFT by its weight over the response's tokens."""
    terms = Terms(DpoForm(0.1), 1.0, torch.zeros(()), (1.0, 1.0), sft_weight=0.9)
    logprobs, loss, measured = one_pair_at_base(terms)
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-0.05 - 0.9 / 9] * 9 + [0.05] * 8)
    assert loss.item() == pytest.approx(log(2) - 0.9 * logprobs[:9].mean().item())
    assert measured.losses.tolist() == pytest.approx([log(2)])  # the figure is DPO's


def test_the_reference_point_follows_the_policy():
    backbone, store, _ = train([*demonstrations(24)])
    examples = thumbs(4, seed=6)
    lessons, _ = lessons_of(examples, {e.id: 1.0 for e in examples}, 99)
    rows = [x.mixed for x in lessons if x.mixed]
    ratios = torch.cat(list(log_ratios(backbone, rows, store, "policy").values()))
    assert len(ratios) == 8
    point = drift(backbone, lessons, "policy", 200)
    assert point.item() == pytest.approx(max(0.0, ratios.mean().item()), abs=1e-5)


def test_a_temperature_is_of_both_distributions():
    backbone, store, _ = train([*pairs(8)])
    rows, _ = rows_of(pairs(3, seed=9), 99)
    batch = collate(rows)
    hot = log_ratios(backbone, rows, store, "policy", temperature=2.0)
    states = store.states(backbone, batch)
    with torch.no_grad():
        ours, base = (
            backbone.token_logprobs(backbone.upper(states, batch, adapter) / 2, batch)
            for adapter in ("policy", None)
        )
    want = torch.zeros(6).index_add(0, batch.owners, ours - base).view(-1, 2)
    got = torch.stack([hot[id] for id in batch.ids])
    assert torch.allclose(got, want, atol=1e-4)
    assert not torch.allclose(got, torch.stack(list(log_ratios(backbone, rows, store, "policy").values())))


def test_a_rare_kind_of_thumb_is_no_explosion():
    said = [t for t in thumbs(44) if t.up] + [
        t for t in thumbs(1, seed=4) if not t.up
    ]  # the one down weighs 33
    seen: list[Progress] = []
    alone = replace(SETTINGS, epochs=1, batch_pairs=1, learning_rate=1e-5)
    train_policy(tiny_backbone(2), said, [1.0] * 45, alone, PreparedStore(), seen.append)
    assert max(at.metrics.loss for at in seen) == pytest.approx(16.5, rel=0.01)

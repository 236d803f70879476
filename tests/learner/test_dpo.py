"""Policy updates on a tiny model: they learn, repeat bit by bit, cap persons, and undo what is not finite."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
import torch

from feedback.examples import Preference
from heliotrope.errors import FailedPrecondition, InvalidInput
from learner.dpo import Diverged, DpoSettings, Progress, evaluate, train_policy
from learner.examples import rows_of, weights
from learner.prepared import PreparedStore, log_ratios
from learner.rows import collate
from tests.learner.tiny_llama import pairs, preference, tiny_backbone

SETTINGS = DpoSettings(learning_rate=5e-3, epochs=3, batch_pairs=8, token_budget=200)
DAY = 86400.0


def train(first_layer: int = 2, settings: DpoSettings = SETTINGS, examples: list[Preference] | None = None):
    examples = pairs(48) if examples is None else examples
    backbone, store = tiny_backbone(first_layer), PreparedStore()
    update = train_policy(backbone, examples, [1.0] * len(examples), settings, store)
    return backbone, store, update


def test_learns_a_taste_that_carries_over_to_new_prompts():
    fresh = pairs(40, seed=4)
    before = evaluate(tiny_backbone(2), fresh, SETTINGS, PreparedStore())
    backbone, store, update = train()
    after = evaluate(backbone, fresh, SETTINGS, store)
    assert (update.pairs, update.steps) == (48, 18)  # 48 pairs / 8 a step x 3 epochs
    assert update.last.loss < update.first.loss < log(2)
    assert update.last.accuracy > 0.9
    assert before is not None
    assert after is not None
    # A fresh adapter is base, up to the rounding of a batch, which differs by processor.
    assert (before.margin, before.kl) == pytest.approx((0, 0), abs=1e-5)
    assert before.loss == pytest.approx(log(2), abs=1e-5)
    assert after.accuracy > 0.85
    assert after.margin > 0.1


def test_the_same_inputs_give_the_same_digest():
    short, examples = replace(SETTINGS, epochs=1), pairs(16)

    def digest(settings: DpoSettings = short, examples: list[Preference] = examples) -> str:
        return train(settings=settings, examples=examples)[0].digest("policy")

    once = digest()
    assert digest() == once
    assert digest(replace(short, seed=2)) != once
    vote = examples[7]
    changed = replace(vote, chosen_ids=vote.rejected_ids, rejected_ids=vote.chosen_ids)
    assert digest(examples=[*examples[:7], changed, *examples[8:]]) != once


def test_micro_batches_do_not_change_a_step():
    whole, _, _ = train(settings=replace(SETTINGS, epochs=1, token_budget=10_000))
    cut, _, _ = train(settings=replace(SETTINGS, epochs=1, token_budget=64))
    for name, tensor in whole.state("policy").items():
        assert torch.allclose(tensor, cut.state("policy")[name], atol=2e-4), name


def test_weights_start_from_where_the_adapter_stands():
    backbone, store, _ = train()
    stands = backbone.state("policy")
    ratios = log_ratios(backbone, rows_of(pairs(4), 99)[0], store, "policy")
    assert max(r.abs().max().item() for r in ratios.values()) > 0.5
    other = tiny_backbone(2)
    other.load_state("policy", stands)
    seen: list[Progress] = []
    train_policy(other, pairs(48), [1.0] * 48, replace(SETTINGS, epochs=1), store, seen.append)
    assert seen[0].metrics.accuracy > 0.9  # of the first step, before it learned anything
    assert [p.step for p in seen] == [1, 2, 3, 4, 5, 6]


def test_ties_held_out_and_weightless_pairs_are_not_trained_on():
    examples = pairs(6)
    examples[0] = replace(examples[0], tie=True)
    examples[1] = replace(examples[1], held_out=True)
    examples[3] = replace(examples[3], rejected_ids=())
    shares = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    update = train_policy(tiny_backbone(2), examples, shares, SETTINGS, PreparedStore())
    assert sorted(update.example_ids) == ["p004-3", "p005-3"]
    assert list(update.refused) == ["p003-3"]
    assert "empty" in update.refused["p003-3"]
    with pytest.raises(FailedPrecondition, match="no usable preference among 6"):
        train_policy(tiny_backbone(2), examples, [0.0] * 6, SETTINGS, PreparedStore())


def test_two_examples_of_one_id_are_refused():
    one, other = pairs(2)
    with pytest.raises(InvalidInput, match=f"2 examples have the id {one.id}: give each its own"):
        train_policy(
            tiny_backbone(2), [one, replace(other, id=one.id)], [1.0, 1.0], SETTINGS, PreparedStore()
        )


def test_a_weight_is_as_good_as_a_repetition():
    # one pair says up, its mirror image says down; with shares 3 : 1 the first one wins
    pair = pairs(1)[0]
    mirror = replace(pair, id="mirror", chosen_ids=pair.rejected_ids, rejected_ids=pair.chosen_ids)
    settings = replace(SETTINGS, epochs=12)
    for shares, sign in (([3.0, 1.0], 1), ([1.0, 3.0], -1)):
        backbone, store = tiny_backbone(2), PreparedStore()
        train_policy(backbone, [pair, mirror], shares, settings, store)
        measured = evaluate(backbone, [pair], settings, store)
        assert measured is not None
        assert measured.margin * sign > 0


def test_not_finite_stops_names_the_examples_and_undoes():
    backbone, store = tiny_backbone(2), PreparedStore()
    examples = pairs(8)
    rows, _ = rows_of(examples, 99)
    store.prepare(backbone, rows)
    states = store["p003-3"].states
    states[2][0, 0] = float("nan")
    before = backbone.digest("policy")
    with pytest.raises(Diverged, match="not finite in examples p003-3$"):
        train_policy(backbone, examples, [1.0] * 8, SETTINGS, store)
    assert backbone.digest("policy") == before
    train_policy(backbone, examples, [1.0] * 8, SETTINGS, store)
    fresh = tiny_backbone(2)
    train_policy(fresh, examples, [1.0] * 8, SETTINGS, store)
    assert backbone.digest("policy") == fresh.digest("policy"), "nothing of the undone update stays"


def test_a_loss_that_explodes_stops_names_the_examples_and_undoes():
    backbone, examples = tiny_backbone(2), pairs(16)
    before = backbone.digest("policy")
    with pytest.raises(Diverged, match="lower dpo.learning_rate") as caught:
        train_policy(
            backbone, examples, [1.0] * 16, replace(SETTINGS, learning_rate=0.3, beta=10.0), PreparedStore()
        )
    assert len(caught.value.ids) == 8 and set(caught.value.ids) <= {p.id for p in examples}
    assert backbone.digest("policy") == before


def test_a_robust_loss_that_runs_away_below_zero_stops_too():
    backbone = tiny_backbone(2)
    runaway = replace(SETTINGS, learning_rate=0.02, epochs=6, beta=1.0, variant="robust", label_smoothing=0.4)
    with pytest.raises(Diverged, match=r"loss -\d.*below -13.9, 20 times what base would have"):
        train_policy(backbone, pairs(64), [1.0] * 64, runaway, PreparedStore())


def test_what_is_prepared_equals_what_is_computed_anew():
    backbone, store, _ = train()
    rows, _ = rows_of(pairs(5), 99)
    batch = collate(rows)
    kept = backbone.logprobs(batch, "policy", store.states(backbone, batch))
    assert torch.allclose(kept, backbone.logprobs(batch, "policy"), atol=2e-5)
    tight = PreparedStore(max_bytes=1)
    tight.prepare(backbone, rows)
    assert [tight[row.id].states for row in rows] == [{}] * 5  # dropped for memory, references kept
    assert torch.allclose(tight.reference(batch), store.reference(batch), atol=1e-4)


def test_an_id_with_other_tokens_is_prepared_anew():
    backbone, store = tiny_backbone(2), PreparedStore()
    rows, _ = rows_of(pairs(2), 99)
    swapped = replace(rows[0], responses=rows[0].responses[::-1])
    store.prepare(backbone, rows)
    chosen, rejected = store[rows[0].id].reference.tolist()
    store.prepare(backbone, [swapped, rows[1]])
    assert store[rows[0].id].reference.tolist() == pytest.approx([rejected, chosen], abs=1e-4)


def test_weights_halve_with_age():
    days = enumerate((10, 5, 0))
    votes = [replace(preference(str(i), (1,), (2,), (3,), f"u{i}"), time=day * DAY) for i, day in days]
    votes[2] = replace(votes[2], weight=0.5)
    got = weights(votes, now=10 * DAY, half_life=5 * DAY, person_share=1.0)
    assert got == pytest.approx([1.0, 0.5, 0.125])  # 1, 2^-1, 0.5 * 2^-2


def test_nobody_outweighs_the_cap():
    def votes(user: str, count: int) -> list[Preference]:
        return [preference(f"{user}{i}", (1,), (2,), (3,), user=user) for i in range(count)]

    loud, crowd = votes("loud", 300), [vote for i in range(700) for vote in votes(f"u{i}", 1)]
    got = weights(loud + crowd, now=0, half_life=DAY)
    # x = 1 % of the whole 700 + x, so x = 700 / 99 = 7.07 (below 20): 300 votes weigh that together, the others 1 each
    assert sum(got[:300]) == pytest.approx(700 / 99)
    assert got[300:] == [1.0] * 700
    # of 100,000 votes 1 % would be 1,000: the 20 votes bind
    assert sum(weights(loud + crowd * 142 + votes("x", 300), 0, DAY)[:300]) == pytest.approx(20)
    # two people alone: 1 % of 4 is less than one vote; one vote each is left, 0.5 + 0.5 and 0.5 + 0.5
    assert weights(votes("a", 2) + votes("b", 2), 0, DAY) == pytest.approx([0.5] * 4)

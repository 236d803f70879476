"""The reward model on a tiny base: it predicts before it learns, learns a taste, and a tie pulls together."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from math import exp, log
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file

import learner.reward_steps
from feedback.examples import Thumb
from learner.backbone import Backbone
from learner.examples import Preference, rows_of
from learner.lora import LoraShape, Reach
from learner.prepared import PreparedStore
from learner.reward import RewardModel
from learner.reward_net import HEAD, REWARD, pool
from learner.reward_steps import RewardSettings
from learner.rows import Row, collate
from tests.learner.tiny_llama import pairs, tiny_backbone, tiny_model

SETTINGS = RewardSettings(learning_rate=1e-2, replay=1.0, person_share=1.0)


def model(settings: RewardSettings = SETTINGS) -> RewardModel:
    return RewardModel(tiny_backbone(2, adapters=("policy", REWARD)), PreparedStore(), settings)


def margins(reward: RewardModel, preferences: list[Preference]) -> list[float]:
    scores = reward.score(rows_of(preferences, 99)[0])
    return [scores[p.id][0] - scores[p.id][1] for p in preferences]


def test_every_preference_is_predicted_before_it_is_learned_from():
    reward = model()
    examples = pairs(60)
    first = reward.learn(examples[:8])
    assert [p.margin for p in first] == [0.0] * 8  # knew nothing: no opinion, whatever it knows now
    assert [p.loss for p in first] == pytest.approx([log(2)] * 8)
    assert [p.right for p in first] == [0.5] * 8
    expected = margins(reward, examples[8:16])
    second = reward.learn(examples)
    assert [p.id for p in second] == [p.id for p in examples[8:]]  # the known 8 are passed over
    assert [p.margin for p in second[:8]] == pytest.approx(expected, abs=1e-6)
    assert [p.seen for p in second] == [8 + i // 8 * 8 for i in range(52)]  # step by step, never one ahead
    assert sum(p.right for p in second[-30:]) / 30 > 0.7


def test_choices_that_follow_the_reward_are_a_surprise_where_they_do_not():
    reward, examples = model(replace(SETTINGS, beta=3.0)), pairs(24)
    said = reward.learn(examples)[-8:]
    assert all(p.margin for p in said)
    assert [p.loss for p in said] == pytest.approx([log(1 + exp(-3 * p.margin)) for p in said])


def test_replay_keeps_what_was_learned_first():
    first, later = pairs(40), pairs(120, favourite=30, seed=8)
    kept, lost = model(replace(SETTINGS, replay=1.0)), model(replace(SETTINGS, replay=0.0))
    for reward in (kept, lost):
        reward.learn(first)
        reward.learn(later)
    assert sum(margins(kept, first)) > 1.2 * sum(margins(lost, first))


def test_a_tie_pulls_two_rewards_together():
    decided = pairs(40)
    reward, tied = model(), model()
    assert tied.learn([replace(p, tie=True) for p in decided]) == []  # there was no side to predict
    reward.learn(decided)
    apart = sum(margins(reward, decided)) / 40
    assert apart > 0.03
    assert max(map(abs, margins(tied, decided))) < apart / 100


def test_held_out_preferences_teach_nothing():
    reward = model()
    assert reward.learn([replace(p, held_out=True) for p in pairs(10)]) == []
    assert margins(reward, pairs(3)) == [0.0] * 3


def test_a_frozen_state_goes_on_as_if_never_stopped(tmp_path: Path):
    examples = pairs(48)
    stayed, resumed, at_once = model(), model(), model()
    stayed.learn(examples[:24])
    digest = stayed.freeze(tmp_path)
    assert resumed.thaw(tmp_path, digest, examples, stayed.learned)
    assert margins(resumed, examples) == margins(stayed, examples)
    assert resumed.learn(examples) == stayed.learn(examples)
    assert resumed.freeze(tmp_path) == stayed.freeze(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # one file a state, named by what is in it
    at_once.learn(examples)
    assert at_once.net.digest() == stayed.net.digest()  # however it came in, by whole steps


def test_what_does_not_fill_a_step_waits():
    reward, examples = model(), pairs(19)
    assert [p.id for p in reward.learn(examples, whole_steps=True)] == [p.id for p in examples[:16]]
    assert reward.learn(examples, whole_steps=True) == []
    assert [p.id for p in reward.learn(examples)] == [p.id for p in examples[16:]]


def test_a_damaged_state_is_not_taken_over(tmp_path: Path):
    reward = model()
    digest = reward.freeze(tmp_path)
    file = tmp_path / f"{digest}.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert not reward.thaw(tmp_path, digest, pairs(4), ["p000-3"])
    assert not reward.thaw(tmp_path, "0" * 64, pairs(4), ["p000-3"])
    assert len(reward.learn(pairs(4))) == 4  # nothing was counted as known


def test_a_state_of_other_layers_is_learned_again(tmp_path: Path):
    digest = model().freeze(tmp_path)
    shape = LoraShape(rank=4, alpha=8.0, first_layer=2)
    smaller = Backbone.load(tiny_model(), shape, adapters=("policy", REWARD), reach={REWARD: Reach(1)})
    assert not RewardModel(smaller, PreparedStore(), SETTINGS).thaw(tmp_path, digest, [], [])


@pytest.mark.parametrize("head", [{HEAD: torch.ones(3)}, {"head": torch.ones(32)}])
def test_a_state_with_another_head_is_learned_again(tmp_path: Path, head: dict[str, torch.Tensor]):
    reward = model()
    kept = {name: tensor for name, tensor in load(reward.net.serialised()).items() if name != HEAD}
    file = tmp_path / "old.safetensors"
    save_file(kept | head, file)
    digest = sha256(file.read_bytes()).hexdigest()
    file.rename(tmp_path / f"{digest}.safetensors")
    before = reward.net.digest()
    assert not reward.thaw(tmp_path, digest, [], [])
    assert reward.net.digest() == before


def test_a_longer_response_that_says_the_same_of_each_token_counts_by_the_root_of_its_length():
    short, long = (collate([Row("a", (1,), ((2,) * n,))]) for n in (16, 64))
    mean = torch.tensor([1.0, -2.0])
    of_short, of_long = (pool(mean.expand(len(batch.token_ids), 2), batch)[0] for batch in (short, long))
    assert torch.allclose(of_long, mean)
    assert torch.allclose(of_short, mean / 2)


def test_a_step_that_is_not_finite_teaches_nothing_and_counts_as_not_learned():
    examples = pairs(24)
    store = PreparedStore()
    hurt = RewardModel(tiny_backbone(2, adapters=("policy", REWARD)), store, SETTINGS)
    hurt.learn(examples[:8])
    store.prepare(hurt._backbone, rows_of(examples, 99)[0])
    store[examples[9].id].states[hurt._backbone.first_layer(REWARD)][0, 0] = float("nan")
    hurt.learn(examples)
    spared = model()
    spared.learn([*examples[:8], *examples[16:]])
    assert hurt.learned == spared.learned
    assert hurt.net.digest() == spared.net.digest()


def test_a_model_that_explodes_is_what_it_was_before_and_says_what_was_in_the_step(
    caplog: pytest.LogCaptureFixture,
):
    examples = pairs(24)
    hurt = model(replace(SETTINGS, learning_rate=50.0))
    hurt.learn(examples[:8])
    before, learned = hurt.net.digest(), hurt.learned
    assert hurt.learn(examples) == [], "its predictions count as little as its steps"
    assert (hurt.net.digest(), hurt.learned) == (before, learned)
    (said,) = [r.getMessage() for r in caplog.records if "left out a step, of" in r.getMessage()]
    assert sum(p.id in said for p in examples[8:]) == 8


def test_after_an_explosion_the_model_learns_all_but_what_did_it(monkeypatch: pytest.MonkeyPatch):
    examples = pairs(24)
    hurt, spared = model(), model()
    for reward in (hurt, spared):
        reward.learn(examples[:8])
    with monkeypatch.context() as patched:
        patched.setattr(learner.reward_steps, "EXPLOSION", 0.0)
        hurt.learn(examples)
    assert hurt.learn(examples) == spared.learn([*examples[:8], *examples[16:]])
    assert hurt.net.digest() == spared.net.digest()


def test_the_policy_is_left_alone():
    backbone = tiny_backbone(2, adapters=("policy", REWARD))
    before = backbone.digest("policy")
    RewardModel(backbone, PreparedStore(), SETTINGS).learn(pairs(16))
    assert backbone.digest("policy") == before


def test_much_taken_back_is_unlearned():
    examples = pairs(24)
    kept, taken_back = examples[:16], examples[16:]
    changed, never = model(), model()
    changed.learn([*kept, *taken_back])
    again = changed.keep(kept)  # 8 of 24: more than a tenth
    assert again == never.learn(kept)
    assert margins(changed, examples) == margins(never, examples)
    assert changed.keep([]) == []
    assert margins(changed, examples) == [0.0] * 24


def test_what_left_the_window_is_not_unlearned():
    old, recent = pairs(24), [replace(p, time=9.0) for p in pairs(8, seed=4)]
    reward = model()
    reward.learn([*old, *recent])
    before = margins(reward, old)
    assert reward.keep(recent) is None
    assert margins(reward, old) == before


def test_one_that_has_learned_nothing_has_a_record_of_nothing():
    assert model().keep(pairs(3)) == []


def test_one_who_is_erased_was_never_there():
    examples = pairs(40)
    others = [p for p in examples if p.user != "u2"]  # 6 or 7 of 40
    changed, never, told = model(), model(), model()
    for reward in (changed, told):
        reward.learn(examples[:24])
        reward.published("before")
        reward.learn(examples)
    never.learn(others)
    changed.keep(others, afresh=True)
    assert changed.net.digest() == never.net.digest() != told.net.digest()
    assert changed.record() == never.record()
    assert changed.learned == {p.id for p in others}
    assert told.record()["parent"] == "before" and len(told.record()["learned"].split()) == 16


def thumbs(preferences: list[Preference], up: bool) -> list[Thumb]:
    """Thumbs up on what was chosen, or down on what was rejected."""
    return [
        Thumb(
            id=f"{p.id}-{up}", event_ids=(p.id,), prompt_ids=p.prompt_ids, user=p.user, conversation="c", time=0.0,
            source="human", response_ids=p.chosen_ids if up else p.rejected_ids, up=up,
        )
        for p in preferences
    ]  # fmt: skip


def test_thumbs_teach_the_same_taste_as_comparisons():
    given, asked = pairs(80), pairs(20, seed=5)
    reward = model()
    assert reward.learn([*thumbs(given[:40], up=True), *thumbs(given[40:], up=False)]) == []
    assert sum(margin > 0 for margin in margins(reward, asked)) >= 15

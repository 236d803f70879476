"""What is configured is what training gets: every key, and each for itself."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from heliotrope.config import load
from heliotrope.settings.learner import Dpo, Reward
from heliotrope.settings.learner import Mixture as MixtureSection
from learner.dpo import DpoSettings
from learner.mixture import Mixture
from learner.reward_steps import RewardSettings

DPO: dict[str, object] = {
    "beta": 0.3,
    "variant": "ipo",
    "label_smoothing": 0.2,
    "length_alpha": 0.5,
    "sft_weight": 0.7,
    "learning_rate": 0.004,
    "epochs": 5,
    "token_budget": 512,
    "batch_pairs": 3,
    "grad_clip": 2.5,
    "max_tokens": 200,
}
MIXTURE = {"pairs": 2.0, "thumbs": 3.0, "demonstrations": 4.0}
REWARD: dict[str, object] = {
    "learning_rate": 0.002,
    "replay": 2.0,
    "beta": 3.0,
    "margin": 0.8,
    "centring": 0.3,
}
OF_THE_NET = {"depth", "layers"}
"""Said of the reward model's adapter, which the backbone has."""


def override(key: str, value: object) -> str:
    return f'{key}="{value}"' if isinstance(value, str) else f"{key}={value}"


def policy(*overrides: str, flips: float = 0.0) -> DpoSettings:
    return DpoSettings.of(load(None, ['dpo.variant="robust"', *overrides]), flips)


def reward(*overrides: str) -> RewardSettings:
    return RewardSettings.of(load(None, overrides))


def test_every_key_of_a_section_is_tried_here() -> None:
    assert (set(Dpo.model_fields), set(MixtureSection.model_fields)) == (set(DPO), set(MIXTURE))
    assert set(Reward.model_fields) - OF_THE_NET == set(REWARD)


def test_every_setting_of_the_policy_update_is_configured() -> None:
    assert {field.name for field in fields(DpoSettings)} == {*DPO, "mixture", "seed"}


def test_every_setting_of_the_reward_model_is_configured_but_how_many_learn_together() -> None:
    others = {"half_life", "votes_per_person", "person_share", "max_tokens", "token_budget", "seed"}
    assert {f.name for f in fields(RewardSettings)} - {"batch_pairs"} == {*REWARD, *others}


@pytest.mark.parametrize(("key", "value"), DPO.items())
def test_a_key_of_dpo_is_the_policy_updates(key: str, value: object) -> None:
    usual = policy()
    assert getattr(usual, key) != value
    assert policy(override(f"dpo.{key}", value)) == replace(usual, **{key: value})


@pytest.mark.parametrize(("key", "value"), MIXTURE.items())
def test_a_key_of_mixture_is_the_policy_updates(key: str, value: float) -> None:
    assert policy(override(f"mixture.{key}", value)) == replace(policy(), mixture=Mixture(**{key: value}))


def test_the_seed_is_everybodys() -> None:
    assert policy("learner.seed=7") == replace(policy(), seed=7)
    assert reward("learner.seed=7") == replace(reward(), seed=7)


def test_the_updates_defaults_are_the_configurations() -> None:
    usual = DpoSettings.of(load())
    assert {name: getattr(usual, name) for name in DPO} == Dpo().model_dump()


@pytest.mark.parametrize("flips", [0.0, 0.15])
def test_agreement_stands_for_the_flips_that_it_shows(flips: float) -> None:
    settings = policy('dpo.label_smoothing="agreement"', flips=flips)
    assert settings.label_smoothing == settings.form.flip_rate == flips


def test_a_number_stands_for_itself_whatever_agreement_shows() -> None:
    assert policy("dpo.label_smoothing=0.2", flips=0.4).label_smoothing == 0.2


def test_the_loss_on_pairs_is_of_three_keys() -> None:
    form = policy("dpo.beta=0.3", 'dpo.variant="conservative"', "dpo.label_smoothing=0.2").form
    assert (form.beta, form.variant, form.flip_rate) == (0.3, "conservative", 0.2)


@pytest.mark.parametrize(("key", "value"), REWARD.items())
def test_a_key_of_reward_is_the_reward_models(key: str, value: object) -> None:
    usual = reward()
    assert getattr(usual, key) != value
    assert reward(override(f"reward.{key}", value)) == replace(usual, **{key: value})


@pytest.mark.parametrize(
    ("key", "value", "name", "expected"),
    [
        ("learner.half_life_days", 3, "half_life", 3 * 86400),
        ("learner.votes_per_person", 7, "votes_per_person", 7),
        ("learner.person_share", 0.5, "person_share", 0.5),
        ("dpo.max_tokens", 200, "max_tokens", 200),
        ("dpo.token_budget", 512, "token_budget", 512),
    ],
)
def test_a_key_of_another_section_is_the_reward_models(
    key: str, value: object, name: str, expected: object
) -> None:
    assert reward(override(key, value)) == replace(reward(), **{name: expected})

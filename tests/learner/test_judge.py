"""Gates: each verdict by arithmetic, and any veto holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliotrope.settings.learner import Judge
from learner import judge as j

SETTINGS = Judge()


def sample(ids=(1, 2, 3, 4, 5), log_ratio=1.0, reward=0.0, logprob=-5.0, by_trainer=-5.0) -> j.Judged:
    return j.Judged(tuple(ids), reward, log_ratio, logprob, by_trainer)


def evidence(pairs=10, accuracy=1.0, candidate=None, parent=None) -> j.Evidence:
    return j.Evidence(pairs, accuracy, candidate or [sample(reward=1.0)] * 8, parent or [sample()] * 8)


def test_wilson_of_8_in_10():
    # p = 0.8, n = 10, z² = 3.8415: scale 1.38415, centre (0.8 + 0.192073) / 1.38415 = 0.716738,
    # half = 1.959964 / 1.38415 * sqrt(0.016 + 0.00960365) = 0.226579
    low, high = j.wilson(8, 10)
    assert (low, high) == pytest.approx((0.490162, 0.943318), abs=1e-4)


@pytest.mark.parametrize(
    ("right", "verdict"),
    [(10, "pass"), (5, "inconclusive"), (4, "inconclusive"), (0, "fail")],
)
def test_held_out_accuracy_vetoes_only_what_is_surely_worse(right, verdict):
    gate = j.held_out_accuracy(evidence(10, right / 10), SETTINGS)
    assert (gate.verdict, gate.figures["accuracy"]) == (verdict, right / 10)


def test_too_few_held_out_pairs_are_inconclusive():
    assert j.held_out_accuracy(evidence(pairs=7), SETTINGS).verdict == "inconclusive"


def test_win_rate_counts_prompts_where_the_reward_is_higher():
    candidate = [sample(reward=r) for r in (1, 1, 0, -1)]
    gate = j.reward_win_rate(evidence(candidate=candidate, parent=[sample(reward=0)] * 4), SETTINGS)
    assert gate.figures["win_rate"] == (1 + 1 + 0.5 + 0) / 4


@pytest.mark.parametrize(
    ("right", "predictions", "lost", "won"),
    # Wilson's lower end of 130 of 200 is 0.58, of 105 of 200 it is 0.46; without a pair there was nothing to predict
    [
        (130, 200, "fail", "pass"),
        (105, 200, "inconclusive", "inconclusive"),
        (0, 0, "inconclusive", "pass"),
    ],
)
def test_a_reward_model_judges_only_when_it_predicts_people(right, predictions, lost, won):
    for reward, verdict in ((-1.0, lost), (1.0, won)):
        seen = j.Evidence(10, 1.0, [sample(reward=reward)] * 8, [sample()] * 8, right, predictions)
        assert j.reward_win_rate(seen, SETTINGS).verdict == verdict


def test_a_young_loop_waits_for_more_votes():
    won = evidence(pairs=SETTINGS.min_held_out - 1)
    assert not j.passed(j.judge(replace(won, reward_right=30.0, reward_predictions=54), SETTINGS))
    assert j.passed(j.judge(replace(won, reward_right=40.0, reward_predictions=54), SETTINGS))


def test_kl_is_the_mean_log_ratio_and_has_a_budget():
    over = [sample(log_ratio=SETTINGS.max_kl * 3), sample(log_ratio=0.0)]
    gate = j.kl_to_base(evidence(candidate=over, parent=over), SETTINGS)
    assert (gate.verdict, gate.figures["nats"]) == ("fail", SETTINGS.max_kl * 1.5)


def test_a_kl_that_is_not_a_number_is_an_error():
    assert j.kl_to_base(evidence(candidate=[sample(log_ratio=float("nan"))]), SETTINGS).verdict == "error"


@pytest.mark.parametrize(("tokens", "verdict"), [(10, "pass"), (21, "fail"), (4, "fail")])
def test_length_may_drift_by_a_factor_either_way(tokens, verdict):
    gate = j.length_drift(evidence(candidate=[sample(range(tokens))], parent=[sample(range(10))]), SETTINGS)
    assert (gate.verdict, gate.figures["ratio"]) == (verdict, tokens / 10)


def test_repeated_share_of_a_loop():
    # 1212 1212: 4-grams 1212 2121 1212 2121 1212: 5 in all, 2 different.
    assert j.repeated_share([1, 2] * 4) == pytest.approx(1 - 2 / 5)


def test_unequal_samples_are_an_error_not_a_crash():
    gates = j.judge(evidence(parent=[sample()]), SETTINGS)
    assert gates["reward_win_rate"].verdict == "error" and not j.passed(gates)


@pytest.mark.parametrize(
    ("pairs", "nats", "verdict"),
    [
        (8, 30.0, "pass"),
        (8, 30.1, "fail"),
        (8, -3.0, "pass"),
        (7, 99.0, "inconclusive"),
        (8, float("nan"), "error"),
    ],
)
def test_a_candidate_that_makes_unlikely_what_people_read_is_refused(pairs, nats, verdict):
    """However well it orders it: both responses of each pair may have fallen."""
    seen = replace(evidence(pairs, accuracy=1.0), held_out_kl=nats)
    gate = j.judge(seen, SETTINGS)["held_out_kl"]
    assert gate.verdict == verdict
    assert j.passed({**j.judge(evidence(), SETTINGS), "held_out_kl": gate}) == (
        verdict in ("pass", "inconclusive")
    )


def test_the_noise_floor_is_what_trainer_and_engine_differ_by():
    said = [sample(logprob=-5.0, by_trainer=-4.9), sample(logprob=-5.0, by_trainer=-5.3)]
    gate = j.kl_to_base(evidence(candidate=said, parent=said), SETTINGS)
    assert gate.figures["noise_floor"] == pytest.approx((0.1 + 0.3) / 10)  # over the tokens of both


@pytest.mark.parametrize(("logprob", "verdict"), [(-1.25, "pass"), (-1.2, "fail")])
def test_a_step_that_takes_most_of_the_entropy_is_refused(logprob, verdict):
    """The parent has 5 nats over 5 tokens, 1 a token; a quarter of it is enough."""
    gate = j.entropy(evidence(candidate=[sample(logprob=logprob)] * 8), SETTINGS)
    assert (gate.verdict, gate.figures["nats"]) == (verdict, pytest.approx(-logprob / 5))
    assert gate.figures["parent"] == 1.0


@pytest.mark.parametrize("verdict", ["fail", "error"])
@pytest.mark.parametrize(
    "name", ["held_out_accuracy", "reward_win_rate", "kl", "held_out_kl", "length", "repetition", "entropy"]
)
def test_any_gate_can_veto(name, verdict):
    gates = j.judge(evidence(), SETTINGS)
    assert j.passed(gates)
    assert not j.passed({**gates, name: j.Gate(verdict)})


def test_nothing_known_does_not_pass():
    assert not j.passed(j.judge(j.Evidence(0, 0.0, [], []), SETTINGS))

"""The hidden utility likes what its docstring says, and length alone buys nothing."""

from __future__ import annotations

import math

import pytest

from heliotrope.simulate.judging import (
    Reply,
    cut_at_sentence,
    length_control,
    mean_and_interval,
    wins_by_prompt,
)
from heliotrope.simulate.prompts import all_prompts, asked, is_kept, kept
from heliotrope.simulate.utility import WEIGHTS, traits, utility

PROMPT = "How do I clean a cast-iron pan?"
GOOD = "1. Rinse your pan with hot water.\n2. Scrub the iron with 1 spoon of salt.\n3. Dry it and rub in oil."


def test_each_trait_is_between_0_and_1_and_has_a_weight() -> None:
    for reply in ("", "!!!", GOOD, "a " * 300, "1 2 3 4 5 6 7 8 9", "Sure! " + GOOD):
        read = vars(traits(PROMPT, reply, finished=False))
        assert set(read) == set(WEIGHTS)
        assert all(0.0 <= value <= 1.0 for value in read.values()), (reply, read)


def test_utility_is_the_weighted_sum_of_the_traits() -> None:
    read = vars(traits(PROMPT, GOOD, finished=True))
    expected = sum(WEIGHTS[name] * read[name] for name in WEIGHTS)
    assert utility(PROMPT, GOOD, True) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("trait", "better", "worse"),
    [
        ("on_topic", "Clean the iron pan with salt.", "Many things in life need care."),
        ("concrete", "Scrub for 2 minutes with salt.", "Scrub for a while with salt."),
        (
            "plain",
            "Rub a little oil on the pan.",
            "Ensuring comprehensive maintenance involves considerations.",
        ),
        ("direct", "Rub the pan with salt.", "Sure, I'm happy to help! Rub the pan with salt."),
        ("direct", "Rub the pan with salt.", "Rub the pan with salt. As an AI I own no pan to rub."),
        ("fresh", "Rinse the pan, add salt, wipe, dry.", "Rinse the pan, rinse the pan, rinse the pan."),
        ("whole", "Rinse the pan. Dry it.", "Rinse the pan. Then dry it with a"),
    ],
)
def test_a_trait_prefers_what_its_claim_says(trait: str, better: str, worse: str) -> None:
    high, low = (getattr(traits(PROMPT, reply, False), trait) for reply in (better, worse))
    assert high > low
    assert utility(PROMPT, better, False) > utility(PROMPT, worse, False)


def test_concrete_is_one_minus_exp_of_marks_per_twenty_words() -> None:
    # 20 words, one of them a number: density 1, so 1 - exp(-1).
    reply = "salt " * 19 + "7"
    assert traits(PROMPT, reply, False).concrete == pytest.approx(1 - math.exp(-1))
    # The same number among 40 words: half the density.
    reply = "salt " * 39 + "7"
    assert traits(PROMPT, reply, False).concrete == pytest.approx(1 - math.exp(-0.5))


def test_a_lone_number_does_not_win_by_being_short() -> None:
    # Fewer than 12 words count as 12: one mark in 12 words is a density of 20 / 12.
    assert traits(PROMPT, "7", False).concrete == pytest.approx(1 - math.exp(-20 / 12))
    assert utility(PROMPT, "7", True) < utility(PROMPT, GOOD, True)


def test_saying_it_twice_is_not_better() -> None:
    assert utility(PROMPT, GOOD + "\n" + GOOD, True) < utility(PROMPT, GOOD, True)


def test_a_list_number_alone_does_not_end_a_sentence() -> None:
    assert traits(PROMPT, "Rinse it\n2.", False).whole == 0.0
    assert traits(PROMPT, "Rinse it.\n2.", False).whole == pytest.approx(
        9 / 12
    )  # "Rinse it." of "Rinse it.\n2."


def test_prompts_are_many_varied_and_split_by_their_text() -> None:
    prompts = all_prompts()
    assert len(prompts) == len(set(prompts)) >= 320
    assert len({prompt.split()[0] for prompt in prompts}) >= 12
    assert len(kept()) >= 110
    assert set(asked()) | set(kept()) == set(prompts)
    assert set(asked()).isdisjoint(kept())
    assert all(is_kept(prompt) for prompt in kept())


def reply(text: str) -> Reply:
    return Reply(text, finished=False, tokens=len(text.split()))


def test_win_rate_counts_every_duel_of_a_prompt() -> None:
    good, bad = reply(GOOD), reply("Sure! Essentially it involves various aspects")
    # Duels: good-bad 1, good-good 1/2, bad-bad 1/2, bad-good 0: 2 of 4.
    assert wins_by_prompt({PROMPT: [good, bad]}, {PROMPT: [bad, good]}) == {PROMPT: 0.5}
    # Without those of the same number only good-good and bad-bad are left.
    assert wins_by_prompt({PROMPT: [good, bad]}, {PROMPT: [bad, good]}, skip_same=True) == {PROMPT: 0.5}
    assert wins_by_prompt({PROMPT: [good, good]}, {PROMPT: [bad, bad]}) == {PROMPT: 1.0}


def test_interval_is_over_prompts_not_over_samples() -> None:
    shares = {f"p{number}": float(number % 4 > 0) for number in range(100)}
    mean, low, high = mean_and_interval(shares)
    # 75 of 100 prompts: standard error sqrt(.75 * .25 / 100) = 0.043, so about 0.75 +- 0.085.
    assert mean == 0.75
    assert low == pytest.approx(0.665, abs=0.02)
    assert high == pytest.approx(0.835, abs=0.02)
    with pytest.raises(ValueError, match="no prompts"):
        mean_and_interval({})


def test_cut_keeps_whole_sentences_within_the_length() -> None:
    text = "Rinse it. Dry it well. Rub in 2.5 g of oil."
    assert cut_at_sentence(text, 5) == "Rinse it. Dry it well."
    assert cut_at_sentence(text, 4) == "Rinse it."
    assert cut_at_sentence(text, 1) == "Rinse"
    assert cut_at_sentence(text, 99) == text
    assert cut_at_sentence("", 5) == ""


def test_length_control_compares_with_other_samples_only() -> None:
    base = {PROMPT: [reply(GOOD), reply("Sure, pans are a journey. And")]}
    live = {PROMPT: [reply("word " * 99), reply("word " * 99)]}
    # Cut to nothing less, sample 0 beats sample 1 and sample 1 loses to sample 0: (1 + 0) / 2.
    assert length_control(base, live) == {PROMPT: 0.5}

"""Simulated people differ, waver, and can be repeated exactly."""

from __future__ import annotations

from collections import Counter

import pytest

from heliotrope.simulate import report
from heliotrope.simulate.judging import Reply
from heliotrope.simulate.people import Population, agreement, measured_agreement
from heliotrope.simulate.prompts import asked
from heliotrope.simulate.utility import WEIGHTS, utility


def reply(text: str) -> Reply:
    return Reply(text, finished=True, tokens=len(text.split()))


def pair(prompt: str) -> tuple[Reply, Reply]:
    """Two replies of which the first is the better one, by about one standard deviation of base replies."""
    subject = prompt.rstrip(".?").lower()
    return reply(f"On {subject}: begin with 2 small steps."), reply(
        f"On {subject}: there are various aspects."
    )


PROMPTS = asked()[:60]
TELLING, VAGUE = pair(PROMPTS[0])


def votes(seed: int, size: int) -> list[tuple[str, str, str]]:
    people = Population(seed, size).people
    return [
        (prompt, person.name, person.choose(prompt, *pair(prompt))) for prompt in PROMPTS for person in people
    ]


def test_the_same_seed_votes_the_same_and_another_does_not() -> None:
    assert votes(1, 5) == votes(1, 5)
    assert votes(1, 5) != votes(2, 5)


def test_a_person_does_not_hang_on_the_size_of_the_population() -> None:
    small, large = Population(3, 2), Population(3, 20)
    assert small[1].weights == large[1].weights
    assert small[2] is small[0]
    with pytest.raises(ValueError, match="nobody"):
        Population(3, 0)


def test_people_differ_in_what_they_like_but_not_in_how_much() -> None:
    first, second = Population(4, 2).people
    assert first.weights != second.weights
    assert sum(first.weights.values()) == pytest.approx(sum(WEIGHTS.values()))


def test_most_choices_follow_the_utility_and_some_do_not() -> None:
    better = [
        utility(prompt, a.text, True) > utility(prompt, b.text, True)
        for prompt in PROMPTS
        for a, b in [pair(prompt)]
    ]
    assert all(better)
    counts = Counter(choice for _, _, choice in votes(5, 20))
    assert counts["a"] > 2 * counts["b"] > 0
    assert counts["tie"] > 0
    assert counts["skip"] > 0


def test_two_bad_replies_are_both_bad() -> None:
    bad = reply(
        "Sure, as an AI, crucial comprehensive considerations involve crucial comprehensive considerations."
    )
    counts = Counter(person.choose(PROMPTS[0], bad, bad) for person in Population(6, 50).people)
    assert counts["both_bad"] > 25


def test_thumbs_go_up_for_good_down_for_bad_and_mostly_nowhere() -> None:
    good = reply("1. Take 2 cups. 2. Stir for 5 min. For example, at 9 you " + PROMPTS[0].lower())
    bad = reply(
        "Sure, as an AI, crucial comprehensive considerations involve crucial comprehensive considerations."
    )
    people = Population(7, 200).people
    ups = Counter(person.thumb(PROMPTS[0], good) for person in people)
    downs = Counter(person.thumb(PROMPTS[0], bad) for person in people)
    assert ups["up"] > 20 and ups["down"] < 5
    assert downs["down"] > 20 and downs["up"] < 5
    assert ups[None] > 100


def test_minds_change_now_and_then_and_never_to_the_same_choice() -> None:
    person = Population(8, 1)[0]
    second = [person.reconsider(PROMPTS[0], TELLING, VAGUE, "b") for _ in range(1000)]
    changed = [choice for choice in second if choice is not None]
    assert 10 < len(changed) < 60  # at most one look in twenty
    assert "b" not in changed and "skip" not in changed


def test_agreement_is_over_pairs_of_people_who_both_chose_a_side() -> None:
    shared = [
        ("item 1", "ann", "a"), ("item 1", "bob", "a"), ("item 1", "cem", "b"),  # 1 of 3 pairs agree
        ("item 2", "ann", "b"), ("item 2", "bob", "b"), ("item 2", "cem", "tie"),  # 1 of 1
        ("item 3", "ann", "a"),  # alone: no pair
    ]  # fmt: skip
    assert agreement(shared) == pytest.approx(2 / 4)
    # Cem changes his mind on item 1: his last vote counts, and 3 of 3 agree there.
    assert agreement([*shared, ("item 1", "cem", "a")]) == pytest.approx(4 / 4)
    with pytest.raises(ValueError, match="two people"):
        agreement([("item 1", "ann", "a"), ("item 1", "ann", "b")])


def test_measured_agreement_shows_each_pair_to_different_people() -> None:
    pairs = {prompt: pair(prompt) for prompt in PROMPTS}
    by_hand: list[tuple[str, str, str]] = []
    people = Population(9, 7)
    for at, (prompt, (a, b)) in enumerate(pairs.items()):
        readers = [people[3 * at + number] for number in range(3)]
        by_hand += [(prompt, person.name, person.choose(prompt, a, b)) for person in readers]
    assert measured_agreement(Population(9, 7), pairs, readers=3) == agreement(by_hand)


def test_a_report_measures_agreement_on_bases_first_two_answers() -> None:
    base = {prompt: [*pair(prompt), pair(prompt)[0]] for prompt in PROMPTS}
    expected = measured_agreement(Population(9, 7), {prompt: pair(prompt) for prompt in PROMPTS})
    assert report.agreement(base, Population(9, 7)) == expected
    alone = {prompt: replies[:1] for prompt, replies in base.items()}
    assert report.agreement(alone, Population(9, 7)) is None

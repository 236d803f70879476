"""From examples of every kind to rows: mismatched prompts, and what is too long."""

from __future__ import annotations

from dataclasses import replace

from feedback.examples import Demonstration, Thumb
from learner.lessons import lessons_of
from tests.learner.tiny_llama import preference

COMMON = {"event_ids": ("e",), "user": "ada", "conversation": "c", "time": 1.0, "source": "human"}


def thumb(id: str, prompt: tuple[int, ...], response: tuple[int, ...], up: bool = True) -> Thumb:
    return Thumb(id=id, prompt_ids=prompt, response_ids=response, up=up, **COMMON)


def test_a_thumb_goes_with_the_next_ones_response_to_another_prompt():
    thumbs = [thumb("a", (1,), (11,)), thumb("b", (1,), (12,)), thumb("c", (2,), (13,))]
    lessons, _ = lessons_of(thumbs, dict.fromkeys("abc", 1.0), 9)
    mixed = [(x.mixed.prompt, x.mixed.responses[0]) for x in lessons if x.mixed]
    assert mixed == [((1,), (13,)), ((1,), (13,)), ((2,), (11,))]


def test_thumbs_under_one_prompt_have_no_mixture():
    lessons, _ = lessons_of([thumb("a", (1,), (11,)), thumb("b", (1,), (12,))], {"a": 1.0, "b": 1.0}, 9)
    assert [x.mixed for x in lessons] == [None, None]


def test_every_kind_is_shortened_at_a_turn_or_refused_with_the_reason():
    long = tuple(range(1, 11))
    told = [
        preference("pair", long, (20, 21), (22,)),
        thumb("thumb", long, (20, 21, 22)),
        Demonstration(id="shown", prompt_ids=long, response_ids=(20, 21, 22), **COMMON),
    ]
    shares = {e.id: 1.0 for e in told}
    _, refused = lessons_of(told, shares, 10)
    assert set(refused) == set(shares) and all(
        "message bounds are unknown" in why for why in refused.values()
    )
    lessons, refused = lessons_of([replace(e, bounds=(2, 5, 8)) for e in told], shares, 10)
    # 13 tokens, 10 allowed: the turn at 2 is 3 long and goes
    assert [x.row.prompt for x in lessons] == [(1, 2, *range(6, 11))] * 3 and not refused
    assert [sum(map(len, x.row.responses)) for x in lessons] == [3, 3, 3]

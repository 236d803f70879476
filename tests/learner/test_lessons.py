"""From examples of every kind to rows: mismatched prompts, and what is too long."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

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


SIZES = st.tuples(st.integers(1, 3), st.integers(1, 3)).filter(lambda sizes: sum(sizes) <= 4)


@given(st.lists(SIZES, max_size=12))
def test_the_next_one_is_found_wherever_prompts_repeat(sizes: list[tuple[int, int]]):
    told = [thumb(f"t{n:02}", (prompt,) * prompt, (50 + n,) * size) for n, (prompt, size) in enumerate(sizes)]
    lessons, _ = lessons_of(told[::-1], {e.id: 1.0 for e in told}, 4)
    found = {x.row.id: x.mixed and (x.mixed.prompt, x.mixed.responses) for x in lessons}
    for n, asked in enumerate(told):
        others = (e for e in (*told[n + 1 :], *told[:n]) if e.prompt_ids != asked.prompt_ids)
        other = next(others, None)
        fits = other is not None and len(asked.prompt_ids) + len(other.response_ids) <= 4
        assert found[asked.id] == ((asked.prompt_ids, (other.response_ids,)) if other and fits else None)


def test_many_thumbs_under_one_prompt_are_compared_once_each():
    class Counted(int):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return int(self) == other

        __hash__ = int.__hash__

    told = [thumb(f"t{n:03}", (Counted(1),), (11,)) for n in range(200)]
    lessons_of([*told, thumb("u", (Counted(2),), (12,))], {e.id: 1.0 for e in told} | {"u": 1.0}, 9)
    assert Counted.compared < 5 * 200, "against every other one it would be 20,000"


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

"""Joining: which judgement teaches what, whatever the order in which events arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.examples import Demonstration, Graded
from feedback.join import Joined, Joiner, Preference, Thumb, examples_hash
from heliotrope.v1 import common_pb2
from tests.feedback.join_events import Event, compared, header, judgement, pair, retracted, served

A, B = tuple(range(100, 120)), tuple(range(200, 240))


def join(events: Iterable[Event], held_out: float = 0.0, sources: tuple[str, ...] = ("human",)) -> Joined:
    joiner = Joiner(sources, held_out)
    for event in events:
        joiner.add(event)
    return joiner.joined()


def chosen(joined: Joined) -> list[tuple[int, ...]]:
    return [e.chosen_ids for e in joined.examples if isinstance(e, Preference)]


def test_a_pick_is_a_preference_with_all_that_is_known_of_it() -> None:
    (made,) = join([*pair(), compared("v", "B", at=12.5, strength=3)]).examples
    assert made == Preference(
        id="v", event_ids=("v", "end-a-ann", "end-b-ann"), prompt_ids=(1, 2, 3), chosen_ids=B, rejected_ids=A,
        user="ann", conversation="talk-ann", time=12.5, source="human", strength=1.0,
        chosen_version="policy-v1", rejected_version="policy-v1",
    )  # fmt: skip


def test_sides_follow_the_recorded_pane_not_the_order_of_targets() -> None:
    vote = compared("v", "A")
    vote.feedback_given.targets[0].side = common_pb2.SIDE_B
    vote.feedback_given.targets[1].side = common_pb2.SIDE_A
    assert chosen(join([*pair(), vote])) == [B]


def test_tie_skip_and_both_bad() -> None:
    (tie,) = join([*pair(), compared("v", "tie")]).examples
    assert isinstance(tie, Preference) and tie.tie and tie.strength == 0
    assert join([*pair(), compared("v", "skip")]).examples == ()
    bad = join([*pair(), compared("v", "both bad")]).examples
    assert [(e.id, e.response_ids, e.up) for e in bad if isinstance(e, Thumb)] == [
        ("v/A", A, False),
        ("v/B", B, False),
    ]


def test_a_ranking_of_three_is_three_pairs_of_a_third_each() -> None:
    answers = [served(n, range(i * 100, i * 100 + 10)) for i, n in enumerate("xyz", 1)]
    vote = judgement(header("v"), "y", "x", "z")
    vote.feedback_given.feedback.ranking.response_ids.extend(["y", "x", "z"])
    made = join([*answers, vote]).examples
    firsts = [(e.chosen_ids[0], e.rejected_ids[0]) for e in made if isinstance(e, Preference)]
    assert firsts == [(200, 100), (200, 300), (100, 300)]
    assert [e.weight for e in made] == [1 / 3] * 3 and len({e.id for e in made}) == 3


def test_a_correction_waits_for_a_tokenizer_and_is_then_a_pair_and_a_demonstration() -> None:
    vote = judgement(header("v"), "a-ann")
    vote.feedback_given.feedback.correction.text = "better"
    joiner = Joiner(("human",), 0.0)
    for event in (*pair(), vote):
        joiner.add(event)
    (made,) = joiner.corrections()
    assert (made.text, made.response_ids) == ("better", A)
    preference, demonstration = made.tokenised((7, 8, 0))
    assert isinstance(preference, Preference) and isinstance(demonstration, Demonstration)
    assert (preference.chosen_ids, preference.rejected_ids) == ((7, 8, 0), A)
    assert demonstration.response_ids == (7, 8, 0) and demonstration.prompt_ids == (1, 2, 3)


def corrected(*picks: str) -> tuple[list[Preference], tuple[Preference, ...]]:
    """Comparisons of a and b, and the pairs of a correction of a."""
    vote = judgement(header("v"), "a-ann")
    vote.feedback_given.feedback.correction.text = "better"
    joiner = Joiner(("human",), 0.0)
    for event in (*pair(), vote, *(compared(f"c{i}", pick) for i, pick in enumerate(picks))):
        joiner.add(event)
    known, (correction,) = joiner.preferences(), joiner.corrections()
    return known, tuple(e for e in correction.tokenised((7, 8, 0), known) if isinstance(e, Preference))


def test_a_correction_of_what_was_chosen_makes_three_pairs() -> None:
    known, pairs = corrected("A")
    assert [(p.chosen_ids, p.rejected_ids) for p in (*pairs, *known)] == [
        ((7, 8, 0), A),  # correction > chosen
        ((7, 8, 0), B),  # correction > rejected
        (A, B),  # chosen > rejected, which the comparison said
    ]
    assert [p.weight for p in pairs] == [0.5, 0.5] and len({p.id for p in pairs}) == 2


@pytest.mark.parametrize("pick", ["B", "tie"])
def test_a_correction_of_what_was_not_chosen_says_nothing_of_the_other(pick: str) -> None:
    _, pairs = corrected(pick)
    assert [(p.chosen_ids, p.rejected_ids, p.weight) for p in pairs] == [((7, 8, 0), A, 1.0)]


def test_a_rating_is_a_grade_of_one_response() -> None:
    vote = judgement(header("v"), "a-ann")
    vote.feedback_given.feedback.rating.helpfulness = 5
    (made,) = join([*pair(), vote]).examples
    assert isinstance(made, Graded) and (made.response_ids, made.helpfulness, made.presentation) == (A, 5, 0)


def test_a_vote_before_the_end_waits_and_joins_when_the_end_comes() -> None:
    a, b = pair()
    joiner = Joiner(("human",), 0.0)
    joiner.add(compared("v", "A"))
    joiner.add(a)
    assert joiner.preferences() == [] and joiner.joined().pending == ("v",)
    joiner.add(b)
    assert [p.chosen_ids for p in joiner.preferences()] == [A] and joiner.joined().pending == ()


def test_an_early_vote_trains_on_prefixes_at_the_smaller_fraction() -> None:
    # a: 10 of 20 sent = 1/2; b: 30 of 40 sent = 3/4. At 1/2 that is 10 of a and 20 of b.
    (made,) = join([*pair(), compared("v", "A", sent=(10, 30))]).examples
    assert isinstance(made, Preference) and made.partial
    assert (made.chosen_ids, made.rejected_ids) == (A[:10], B[:20])


def test_a_vote_when_one_answer_was_whole_counts_that_one_as_whole() -> None:
    # a whole; b: 20 of 40 sent = 1/2. At 1/2 that is 10 of a and 20 of b.
    (made,) = join([*pair(), compared("v", "B", sent=(None, 20))]).examples
    assert isinstance(made, Preference) and (made.chosen_ids, made.rejected_ids) == (B[:20], A[:10])


def test_a_vote_after_hardly_a_token_is_not_trained_on() -> None:
    joined = join(
        [*pair(), compared("v", "A", sent=(7, 40))]
    )  # 7 of 20 tokens: under the 8 that are asked for
    assert joined.examples == () and "fewer than 8 tokens" in joined.dropped["v"]


def test_a_comparison_with_an_answer_that_was_cut_is_not_trained_on() -> None:
    a, b = pair()
    b.response_served.finish_reason = common_pb2.FINISH_REASON_CANCELLED
    assert "cut short" in join([a, b, compared("v", "A")]).dropped["v"]


def no_consent(event: Event) -> None:
    event.consent = False


def evaluation(event: Event) -> None:
    event.purpose = common_pb2.PURPOSE_EVALUATION


def simulated(event: Event) -> None:
    event.source = common_pb2.SOURCE_SIMULATED


@pytest.mark.parametrize("spoil", [no_consent, evaluation, simulated])
@pytest.mark.parametrize("which", [0, 2])
def test_what_may_not_be_learned_from_is_left_out_with_the_reason(
    spoil: Callable[[Event], None], which: int
) -> None:
    events = [*pair(), compared("v", "A")]
    assert len(join(events).examples) == 1
    spoil(events[which])
    joined = join(events)
    assert joined.examples == () and list(joined.dropped) == ["v"]


def test_simulated_feedback_is_learned_from_when_it_is_accepted() -> None:
    events = [*pair(), compared("v", "A")]
    for event in events:
        simulated(event)
    assert [e.source for e in join(events, sources=("simulated",)).examples] == ["simulated"]


def test_another_persons_response_cannot_be_judged() -> None:
    vote = compared("v", "A")
    vote.user = "eve"
    assert join([*pair(), vote]).dropped == {"v": "judges another person's response"}


def test_answers_to_different_prompts_make_no_pair() -> None:
    a, _ = pair()
    joined = join([a, served("b-ann", range(200, 240), prompt=(9,)), compared("v", "A")])
    assert "same prompt" in joined.dropped["v"]


def test_the_later_sequence_wins_within_a_producer_even_against_its_clock() -> None:
    votes = [compared("old", "A", at=50, sequence=1), compared("new", "B", at=40, sequence=2)]
    for order in (votes, votes[::-1]):
        assert chosen(join([*pair(), *order])) == [B]


def test_the_later_time_wins_between_producers() -> None:
    votes = [
        compared("old", "A", at=40, sequence=9, producer="p1"),
        compared("new", "B", at=50, sequence=1, producer="p2"),
    ]
    for order in (votes, votes[::-1]):
        assert chosen(join([*pair(), *order])) == [B]


def test_taking_back_removes_and_what_was_replaced_does_not_come_back() -> None:
    events = [*pair(), compared("v1", "A", sequence=1), compared("v2", "B", sequence=2)]
    assert join([retracted("r", "v2"), *events]).examples == ()
    assert chosen(join([retracted("r", "v1"), *events])) == [B], "v1 had been replaced already"
    assert chosen(join([retracted("r", "v2", user="eve"), *events])) == [B], (
        "only one's own can be taken back"
    )


def test_erasure_removes_what_came_before_it_and_nothing_later() -> None:
    erasure = header("e", at=60, sequence=5)
    erasure.erasure_requested.user = "ann"
    before, after = compared("v1", "A", at=50, sequence=4), compared("v2", "B", at=70, sequence=6)
    assert join([*pair(), before, erasure]).examples == ()
    assert chosen(join([*pair(), before, erasure, after])) == [B]


def test_a_conversation_is_held_out_whole_and_about_the_asked_share_is() -> None:
    people = [f"person-{i}" for i in range(1000)]
    events = [e for p in people for e in (*pair(p), compared(f"v-{p}", "A", p))]
    share = sum(e.held_out for e in join(events, held_out=0.15).examples) / 1000
    assert 0.12 < share < 0.18  # the standard error is sqrt(0.15 * 0.85 / 1000) = 0.011
    same = [
        e for e in join([*pair(), compared("v", "A"), compared("w", "both bad", sequence=2)], 0.15).examples
    ]
    assert len({e.held_out for e in same}) == 1


def test_a_shared_item_is_on_one_side_for_everybody() -> None:
    people = [f"person-{i}" for i in range(60)]
    events = [e for p in people for e in (*pair(p), compared(f"v-{p}", "A", p, item="one item"))]
    assert len({e.held_out for e in join(events, held_out=0.5).examples}) == 1


PEOPLE = ("ann", "ben")


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Two people on a pair each: up to six changed votes and retractions over two producers with jumping clocks."""
    events = [e for p in PEOPLE for e in pair(p)]
    for i in range(draw(st.integers(0, 6))):
        user, producer = draw(st.sampled_from(PEOPLE)), draw(st.sampled_from(["p1", "p2"]))
        choice = draw(st.sampled_from(["A", "B", "tie", "both bad", "skip"]))
        events.append(compared(f"v{i}", choice, user, draw(st.integers(0, 5)), i + 1, producer))
        if draw(st.integers(0, 4)) == 0:
            events.append(retracted(f"r{i}", f"v{i}", user, i + 1))
    return events


@settings(max_examples=150, deadline=None)
@given(histories(), st.data())
def test_order_and_repeats_of_events_change_nothing(events: list[Event], data: st.DataObject) -> None:
    repeats = data.draw(st.lists(st.sampled_from(events), max_size=5))
    shuffled = data.draw(st.permutations([*events, *repeats]))
    assert join(shuffled) == join(events)
    assert examples_hash(join(shuffled).examples) == examples_hash(join(events).examples)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("AB"), min_size=1, max_size=6), st.data())
def test_the_last_vote_wins_and_changing_one_standing_vote_changes_the_hash(
    picks: list[str], data: st.DataObject
) -> None:
    votes = [compared(f"v{i}", pick, sequence=i + 1) for i, pick in enumerate(picks)]
    events = data.draw(st.permutations([*pair(), *votes]))
    assert chosen(join(events)) == [A if picks[-1] == "A" else B]
    other = compared(f"v{len(picks) - 1}", "B" if picks[-1] == "A" else "A", sequence=len(picks))
    changed = [other if e.event_id == other.event_id else e for e in events]
    assert examples_hash(join(changed).examples) != examples_hash(join(events).examples)

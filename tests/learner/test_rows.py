"""Rows that share a prompt: who sees whom, what predicts what, how rows are grouped and shortened."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heliotrope.errors import InvalidInput
from learner import rows as rows_module
from learner.kernels.fill import filled
from learner.rows import Row, batches, collate, make_row

ROW = Row("a", (10, 11, 12), ((20, 21), (30, 31, 32)))


def test_one_row_by_hand():
    batch = collate([ROW])
    assert batch.token_ids.tolist() == [10, 11, 12, 20, 21, 30, 31, 32, *[0] * 8]  # filled up to 16
    assert batch.positions.tolist() == [
        0,
        1,
        2,
        3,
        4,
        3,
        4,
        5,
        *[0] * 8,
    ]  # the second response starts at 3 again
    assert batch.targets.tolist() == [20, 21, 30, 31, 32]
    # the prompt's last token (2) predicts the first token of both
    assert batch.predictors.tolist() == [2, 3, 2, 5, 6]
    assert batch.owners.tolist() == [0, 0, 1, 1, 1]
    assert batch.count == 2


def test_responses_do_not_see_each_other():
    sees = [[j for j in range(16) if line[j]] for line in collate([ROW]).masks[0].tolist()]
    assert sees[2] == [0, 1, 2]
    assert sees[4] == [0, 1, 2, 3, 4]
    assert sees[5] == [0, 1, 2, 5]  # not 3 and 4, the other response
    assert sees[7] == [0, 1, 2, 5, 6, 7]
    assert sees[8:] == [[j] for j in range(8, 16)], "fillers see themselves"


def test_rows_lie_one_behind_the_other():
    batch = collate([ROW, Row("b", (40,), ((50,), (60,)))])
    assert batch.token_ids.tolist() == [10, 11, 12, 20, 21, 30, 31, 32, *[0] * 8, 40, 50, 60, *[0] * 13]
    assert (batch.ids, batch.responses, batch.shared) == (("a", "b"), (2, 2), 0)
    assert batch.targets.tolist() == [20, 21, 30, 31, 32, 50, 60]
    assert batch.predictors.tolist() == [2, 3, 2, 5, 6, 16, 16]  # the second row starts at index 16
    assert batch.owners.tolist() == [0, 0, 1, 1, 1, 2, 3]
    assert batch.count == 4
    own = batch.masks[1][:3, :3]
    assert own.tolist() == [[True, False, False], [True, True, False], [True, False, True]]
    assert not batch.masks[1][:3, 3:].any()


def test_what_all_prompts_begin_with_is_there_once():
    alike = tuple(range(1, 17))
    rows = [Row("a", (*alike, 20), ((21, 22), (30,))), Row("b", alike, ((50, 51), (60,)))]
    batch = collate(rows)
    assert batch.shared == 16
    assert batch.token_ids.tolist() == [*alike, 20, 21, 22, 30, *[0] * 12, 50, 51, 60, *[0] * 13]
    assert batch.positions.tolist() == [*range(16), 16, 17, 18, 17, *[0] * 12, 16, 17, 16, *[0] * 13]
    assert batch.targets.tolist() == [21, 22, 30, 50, 51, 60]
    # what is alike predicts both of b's first tokens
    assert batch.predictors.tolist() == [16, 17, 16, 15, 32, 15]
    assert batch.owners.tolist() == [0, 0, 1, 2, 2, 3]
    assert [tuple(mask.shape) for mask in batch.masks] == [(16, 16), (16, 32), (16, 32)]
    assert batch.masks[1][:4, :16].all() and batch.masks[2][:3, :16].all()
    own = batch.masks[2][:3, 16:19]
    assert own.tolist() == [[True, False, False], [True, True, False], [False, False, True]]
    texts = [torch.tensor([*row.prompt, *sum(row.responses, ())]) for row in rows]
    assert torch.equal(batch.join(texts), batch.token_ids)
    longer = [torch.cat([text, torch.ones(5, dtype=torch.long)]) for text in texts]
    assert torch.equal(batch.join(longer), batch.token_ids), "what they were filled up with is left out"
    with pytest.raises(AssertionError, match="row b has 19 positions, not 18"):
        batch.join([texts[0], texts[1][:-1]])


@pytest.mark.parametrize(("alike", "own", "shared"), [(7, 25, 0), (8, 24, 0), (8, 25, 8)])
def test_what_is_alike_is_shared_where_that_is_less_work(alike: int, own: int, shared: int):
    # apart, 32 positions are filled up to 32 and 33 up to 48; with 8 shared 24 and 25 are both 32
    rows = [Row(str(n), (*range(1, alike + 1), 90 + n), ((2,) * (own - 1),)) for n in range(3)]
    assert collate(rows).shared == shared
    assert collate(rows[:1]).shared == 0, "one row shares nothing"


def test_a_batch_stays_within_its_token_budget():
    # so many times 32 tokens
    rows = [Row(str(n), (n,) * (32 * n - 1), ((2,),)) for n in (4, 10, 5, 11, 31, 6)]
    groups = [batch.ids for batch in batches(rows, token_budget=32 * 21)]
    # longest first, each to the smallest: 31 alone although beyond the budget; 11 + 5 + 4; 10 + 6
    assert groups == [("31",), ("11", "5", "4"), ("10", "6")]
    two = [batch.ids for batch in batches(rows[:4], token_budget=32 * 99, multiple=2)]
    assert two == [("11", "4"), ("10", "5")], "for two workers"


def test_a_budget_counts_what_rows_are_filled_up_with():
    rows = [Row(str(n), (n,) * 16, ((2,),)) for n in range(4)]  # 17 tokens each, 32 positions
    assert [len(batch.ids) for batch in batches(rows, token_budget=64)] == [2, 2]
    assert [len(batch.ids) for batch in batches(rows, token_budget=63)] == [1] * 4


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12)), min_size=1, max_size=20),
    st.integers(10, 600),
    st.integers(1, 4),
)
def test_every_row_is_in_one_batch(sizes: list[tuple[int, int]], budget: int, multiple: int):
    rows = [Row(str(i), (1,) * p, ((2,) * r, (3,))) for i, (p, r) in enumerate(sizes)]
    made = batches(rows, budget, multiple)
    assert len(made) % multiple == 0 or len(made) == len(rows)
    assert sorted(id for batch in made for id in batch.ids) == sorted(row.id for row in rows)
    assert all(batch.token_ids.numel() <= budget or len(batch.ids) == 1 for batch in made)


def test_a_batch_of_several_rows_is_filled_up_too():
    long, short = Row("a", (1,) * 149, ((2,),)), Row("b", (3,) * 99, ((4,),))
    batch = collate([long, short])
    # 150 are filled up to 160, 100 to 112, and both to 320
    assert [tuple(mask.shape) for mask in batch.masks] == [(160, 160), (160, 160)]
    assert batch.token_ids.tolist() == [*[1] * 149, 2, *[0] * 10, *[3] * 99, 4, *[0] * 60]
    assert batch.masks[1][100:].nonzero().tolist() == [[n, 100 + n] for n in range(60)]
    texts = [torch.tensor([*row.prompt, *sum(row.responses, ())]) for row in (long, short)]
    assert torch.equal(batch.join(texts), batch.token_ids)
    assert len(collate([Row("a", (1,) * 269, ((2,),))]).token_ids) == 288, "one row is not"


@pytest.mark.parametrize(("count", "size"), [(0, 0), (1, 16), (16, 16), (113, 128), (128, 128), (129, 160)])
def test_short_rows_are_filled_less(count: int, size: int):
    assert filled(count) == size


def test_a_long_prompt_loses_its_oldest_messages():
    # messages begin at 0, 4 and 7; 10 prompt tokens + 2 + 3 = 15, limit 12: dropping 3 means dropping to 4
    row = make_row("a", range(10), [(90, 91), (92, 93, 94)], max_tokens=12, bounds=(0, 4, 7))
    assert row.prompt == (4, 5, 6, 7, 8, 9)
    assert row.dropped == 4
    assert row.responses == ((90, 91), (92, 93, 94))
    assert make_row("a", range(10), [(90, 91), (92, 93, 94)], max_tokens=15, bounds=(0, 4, 7)).dropped == 0


def test_what_stands_before_the_first_turn_that_may_go_stays():
    # a system message of 2 tokens, turns at 2, 4 and 7; 10 + 5 = 15, limit 12: the turn at 2 is 2 long, too little
    row = make_row("a", range(10), [(90, 91), (92, 93, 94)], max_tokens=12, bounds=(2, 4, 7))
    assert row.prompt == (0, 1, 7, 8, 9)
    assert row.dropped == 5


@pytest.mark.parametrize(
    ("bounds", "limit", "words"),
    [((), 12, "message bounds are unknown"), ((0, 4, 7), 7, "no message of the prompt can be dropped")],
)
def test_a_response_is_never_cut(bounds: tuple[int, ...], limit: int, words: str):
    with pytest.raises(InvalidInput, match=f"example a: 15 tokens, {limit} allowed.*{words}"):
        make_row("a", range(10), [(90, 91), (92, 93, 94)], max_tokens=limit, bounds=bounds)


@pytest.mark.parametrize(("prompt", "responses"), [((), [(1,)]), ((1,), [(1,), ()]), ((1,), [])])
def test_nothing_to_learn_from_is_refused(prompt: tuple[int, ...], responses: list[tuple[int, ...]]):
    with pytest.raises(InvalidInput, match="empty"):
        make_row("a", prompt, responses, max_tokens=9)


def test_rows_of_which_no_two_fit_are_dealt_in_a_few_tries(monkeypatch: pytest.MonkeyPatch):
    tries, dealt = list[int](), rows_module._dealt
    monkeypatch.setattr(
        rows_module, "_dealt", lambda sizes, count: tries.append(count) or dealt(sizes, count)
    )
    rows = [Row(str(n), (n,) * 149, ((2,),)) for n in range(3000)]
    assert [len(batch.ids) for batch in batches(rows, 256)] == [1] * 3000
    assert len(tries) < 10

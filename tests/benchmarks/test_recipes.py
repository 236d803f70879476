"""Votes for comparing recipes: each on a pair of its own, the same again for the same crowd; a recipe is a change of settings."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks.recipes.compare import difference
from benchmarks.recipes.train import changes, place
from benchmarks.recipes.votes import votes
from feedback.agreement import agreement
from heliotrope.config import load
from heliotrope.errors import ConfigError

GOOD = "Mix 500 g flour with 300 g water, for example in a bowl, and let your bread dough rest 2 hours."
POOR = "It depends on various important factors and aspects of a truly fascinating and essential experience."


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """Four answers to each of twenty prompts, good and poor ones in turn."""
    file = tmp_path / "answers.jsonl"
    lines = [
        {"prompt": f"How do I bake bread {p}?", "prompt_ids": [p], "ids": [p, n], "text": (GOOD, POOR)[n % 2], "finished": False}
        for p in range(20)
        for n in range(4)
    ]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def test_each_vote_is_on_a_pair_of_its_own_and_mostly_for_the_better(drawn: Path) -> None:
    said = votes(drawn, 30, seed=1)
    shown = {frozenset((v.chosen_ids, v.rejected_ids)) for v in said.decided}
    assert len(shown) == len(said.decided) == 30
    better = sum(v.chosen_ids[1] % 2 == 0 for v in said.decided)
    assert better >= 25
    assert said.wrong == pytest.approx(1 - better / 30)


def test_the_same_crowd_votes_the_same_again_and_another_one_differently(drawn: Path) -> None:
    assert votes(drawn, 30, seed=1) == votes(drawn, 30, seed=1) != votes(drawn, 30, seed=2)


def test_votes_that_are_turned_round_are_seen_in_what_others_say_of_the_pair(drawn: Path) -> None:
    clear, noisy = votes(drawn, 30, seed=1), votes(drawn, 30, seed=1, flip=0.3)
    assert noisy.wrong > clear.wrong + 0.1
    of_clear, of_noisy = (agreement(said.shared).label_flips for said in (clear, noisy))
    assert of_clear is not None and of_noisy is not None
    assert of_clear < 0.1 and 0.2 < of_noisy < 0.4


def test_thumbs_are_on_answers_that_nobody_voted_on_and_mostly_right(drawn: Path) -> None:
    said = votes(drawn, 20, seed=1, thumbs=12)
    seen = {ids for v in said.decided for ids in (v.chosen_ids, v.rejected_ids)}
    pressed = {thumb.response_ids for thumb in said.thumbs}
    assert len(pressed) == 12 and not pressed & seen
    assert sum(thumb.up is (thumb.response_ids[1] % 2 == 0) for thumb in said.thumbs) >= 10
    assert votes(drawn, 20, seed=1, thumbs=12) == said
    assert votes(drawn, 20, seed=1).decided == said.decided


def test_too_few_votes_are_refused(drawn: Path) -> None:
    with pytest.raises(ValueError, match=r"only \d+ of 41 votes are decided"):
        votes(drawn, 41, seed=1)
    with pytest.raises(ValueError, match=r"only \d+ of 41 thumbs are pressed"):
        votes(drawn, 20, seed=1, thumbs=41)


def test_a_recipe_changes_what_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "demo.toml"
    file.write_text("[demo]\npeople = 3\n[lora]\nfirst_layer = 15\n[dpo]\nlearning_rate = 1e-3\n")
    changed = load(None, changes(file, "dpo.learning_rate=3e-3,dpo.batch_pairs=4"))
    assert (changed.lora.first_layer, changed.dpo.learning_rate, changed.dpo.batch_pairs) == (15, 3e-3, 4)
    assert load(None, changes(file, "demo")).dpo.learning_rate == 1e-3


def test_what_training_does_not_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo.toml").write_text("")
    with pytest.raises(ConfigError, match=r"learner.min_new=3.*lora, dpo, mixture"):
        changes(tmp_path / "demo.toml", "learner.min_new=3")


def test_another_setting_is_another_folder(tmp_path: Path) -> None:
    file = tmp_path / "demo.toml"
    wanted = Namespace(work=tmp_path, config=file, votes=10, tokens=48, flip=0.0, thumbs=0)
    file.write_text("[dpo]\nbeta = 0.1\n")
    before = place(wanted, "demo", 1)
    assert place(wanted, "demo", 1) == before
    file.write_text("[dpo]\nbeta = 0.05\n")
    assert len({before, place(wanted, "demo", 1), place(wanted, "demo", 2)}) == 3


def test_a_difference_is_taken_crowd_by_crowd_and_prompt_by_prompt() -> None:
    """Gaps of the first crowd 0.25 and 0.25, of the second 0.25 and 0: means 0.25 and 0.125, in all 0.1875.

    Student's t with one degree of freedom at 97.5 % is 12.706; the means' spread is 0.125 / sqrt 2, over sqrt 2: 0.0625.
    """
    ours = [{"a": 0.75, "b": 0.5}, {"a": 1.0, "b": 0.5}]
    theirs = [{"a": 0.5, "b": 0.25}, {"a": 0.75, "b": 0.5}]
    found = difference(ours, theirs)
    assert (found["difference"], found["by_crowd"]) == (0.1875, [0.25, 0.125])
    assert found["over_crowds"] == pytest.approx(
        (0.1875 - 12.706 * 0.0625, 0.1875 + 12.706 * 0.0625), rel=1e-4
    )
    assert found["over_prompts"] == (0.125, 0.25), (
        "of two prompts only one or the other, or both, can be drawn"
    )


def test_one_crowd_says_nothing_of_other_people() -> None:
    assert difference([{"a": 1.0}], [{"a": 0.5}])["over_crowds"] is None

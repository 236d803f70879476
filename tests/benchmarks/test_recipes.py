"""Votes for comparing recipes: each on a pair of its own, the same again for the same crowd; a recipe is a change of settings."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks.recipes.train import changes, place
from benchmarks.recipes.votes import pairs
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
    votes = pairs(drawn, 30, seed=1)
    shown = {frozenset((v.chosen_ids, v.rejected_ids)) for v in votes}
    assert len(shown) == len(votes) == 30
    assert sum(v.chosen_ids[1] % 2 == 0 for v in votes) >= 25


def test_the_same_crowd_votes_the_same_again_and_another_one_differently(drawn: Path) -> None:
    assert pairs(drawn, 30, seed=1) == pairs(drawn, 30, seed=1) != pairs(drawn, 30, seed=2)


def test_too_few_votes_are_refused(drawn: Path) -> None:
    with pytest.raises(ValueError, match=r"only \d+ of 41 votes are decided"):
        pairs(drawn, 41, seed=1)


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
    wanted = Namespace(work=tmp_path, config=file, votes=10, tokens=48)
    file.write_text("[dpo]\nbeta = 0.1\n")
    before = place(wanted, "demo", 1)
    assert place(wanted, "demo", 1) == before
    file.write_text("[dpo]\nbeta = 0.05\n")
    assert len({before, place(wanted, "demo", 1), place(wanted, "demo", 2)}) == 3

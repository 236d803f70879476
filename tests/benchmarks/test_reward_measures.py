"""The figures of benchmarks.reward_quality, by hand: words, calibration, intervals over prompts, folds."""

from __future__ import annotations

import json
from math import log
from pathlib import Path

import numpy as np
import pytest

from benchmarks.clustered import calibration_error, correlation, interval, right
from benchmarks.pairs import Pair, fingerprint, load_pairs, shuffled
from benchmarks.reward_votes import agreed_pairs
from benchmarks.words import Words
from heliotrope.chat import Message


def pair(id: str, chosen: str, rejected: str, prompt: str = "hello") -> Pair:
    return Pair(id, "made", (Message("user", prompt),), chosen, rejected)


def test_the_words_that_people_choose_are_learned():
    known = [pair(str(i), f"thanks {i}", f"no {i}") for i in range(20)]
    words = Words(known, ridge=0.1)
    unseen = [pair("a", "thanks friend", "no friend"), pair("b", "no way", "thanks way"), pair("c", "x", "y")]
    margins = words.margins(unseen)
    assert margins[0] > 1
    assert margins[1] == pytest.approx(-margins[0])  # antisymmetric
    assert margins[2] == 0  # unknown words say nothing


def test_a_tie_of_rewards_counts_half():
    assert right(np.array([1.0, 0.0, -2.0])).tolist() == [1.0, 0.5, 0.0]


def test_calibration_by_hand():
    sure = log(0.8 / 0.2)  # says 80 %
    margins = np.array([sure] * 3 + [-sure])  # and is right in 75 %
    assert calibration_error(margins) == pytest.approx(0.05)


def test_rows_of_one_prompt_are_one_observation():
    values = np.array([1.0] * 50 + [0.0] * 50)
    by_row = interval(values, [str(i) for i in range(100)])
    by_prompt = interval(values, [str(i // 10) for i in range(100)])
    assert by_row["mean"] == by_prompt["mean"] == 0.5
    # ten prompts of ten equal rows: the interval is sqrt(10) times as wide
    width = (by_prompt["high"] - by_prompt["low"]) / (by_row["high"] - by_row["low"])
    assert width == pytest.approx(10**0.5, rel=0.15)


def test_correlation_needs_something_that_varies():
    x = np.array([1.0, 2.0, 3.0])
    assert correlation(x, -2 * x) == pytest.approx(-1)
    assert correlation(x, np.ones(3)) is None


def test_pairs_are_read_with_both_kinds_of_prompt(tmp_path: Path):
    turns = json.dumps([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}])
    rows = [
        {"id": "1", "source": "s", "prompt": "plain", "chosen": " a", "rejected": "b"},
        {"id": "2", "source": "s", "prompt": turns, "chosen": "c", "rejected": "d"},
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = load_pairs(file)
    assert (first.messages, first.chosen) == ((Message("user", "plain"),), "a")
    assert second.messages == (Message("user", "hi"), Message("assistant", "yes?"))
    assert first.prompt != second.prompt
    assert shuffled([first, second]) == shuffled([second, first])


def test_only_unanimous_decided_items_count(tmp_path: Path):
    items = [
        {"id": i, "prompt": "p", "response_a": "a", "response_b": "b", "votes": votes}
        for i, votes in enumerate([[1, 1, 1], [2, 2, 2], [1, 1, 2], [0, 0, 0]])
    ]
    file = tmp_path / "votes.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    assert [(p.chosen, p.rejected) for p in agreed_pairs(file)] == [("a", "b"), ("b", "a")]


def test_the_fingerprint_is_of_the_tokens_not_of_their_order():
    assert fingerprint([[1, 2], [3]]) == fingerprint([(3,), (1, 2)])
    assert fingerprint([[1, 2], [3]]) != fingerprint([[1], [2, 3]])

"""Foreign preference sets: every way to write the same pair becomes the same item, and what is none says why."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from heliotrope import parquet
from heliotrope.errors import ConfigError, InvalidInput
from heliotrope.preference_sets import item_of, read
from heliotrope.v1 import common_pb2, feedback_pb2

TURNS = [{"role": "user", "content": "Why?"}]
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("Because.", "No."))
SAME: dict[str, dict[str, Any]] = {
    "text": {"prompt": "Why?", "chosen": "Because.", "rejected": "No."},
    "messages": {"prompt": TURNS, "chosen": [GOOD], "rejected": [BAD]},
    "messages as JSON": {"prompt": json.dumps(TURNS), "chosen": "Because.", "rejected": "No."},
    "implicit prompt": {"chosen": [*TURNS, GOOD], "rejected": [*TURNS, BAD]},
    "prompt twice": {"prompt": TURNS, "chosen": [*TURNS, GOOD], "rejected": [*TURNS, BAD]},
    "HH-RLHF": {
        "chosen": "\n\nHuman: Why?\n\nAssistant: Because.",
        "rejected": "\n\nHuman: Why?\n\nAssistant: No.",
    },
}


@pytest.mark.parametrize("row", SAME.values(), ids=SAME)
def test_one_pair_in_every_format_is_one_item(row: dict[str, Any]) -> None:
    item = item_of(row, "set")
    assert [(m.role, m.content) for m in item.messages] == [(common_pb2.ROLE_USER, "Why?")]
    assert list(item.responses) == ["Because.", "No."]
    assert item.feedback.comparison.choice == feedback_pb2.CHOICE_A
    assert item.item_id == item_of(SAME["text"], "set").item_id


def test_a_longer_transcript_keeps_its_turns() -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello: \n\nHuman: Why?\n\nAssistant:"
    item = item_of({"chosen": f"{start} Yes", "rejected": f"{start} No"}, "hh")
    assert [m.content for m in item.messages] == ["Hi", "Hello:", "Why?"]
    assert [m.role for m in item.messages] == [2, 3, 2] and list(item.responses) == ["Yes", "No"]


def test_a_label_is_a_thumb_and_not_a_pair() -> None:
    item = item_of({"prompt": "Why?", "completion": "No.", "label": False}, "kto")
    assert item.feedback.thumb == feedback_pb2.Thumb(response_id="0", up=False)


def test_ids_follow_content_origin_and_judge() -> None:
    row = SAME["text"]
    ids = {
        item_of(r, origin).item_id
        for r, origin in ((row, "a"), (row, "b"), (row | {"judge": "7"}, "a"), (row | {"rejected": "?"}, "a"))
    }
    assert len(ids) == 4


def test_a_rows_own_source_names_the_set_in_plain_letters() -> None:
    assert item_of(SAME["text"] | {"source": "my set (v2)"}, "file").origin == "my-set-v2-"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "hello"}, "columns text are no preference"),
        ({"prompt": "a", "completion": "b", "label": "yes"}, "a label of true or false"),
        ({"prompt": "a", "chosen": "same", "rejected": "same"}, "the same text"),
        ({"chosen": "b", "rejected": "c"}, "no prompt"),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: x\n\nAssistant: c"},
            "same turns",
        ),
        ({"prompt": "a", "chosen": 5, "rejected": "c"}, "chosen is int"),
        ({"prompt": "a", "chosen": [{"role": "user"}], "rejected": "c"}, "without role and content"),
        ({"prompt": "a", "chosen": [*TURNS, *TURNS], "rejected": "c"}, "not one answer"),
        ({"prompt": [{"role": "wizard", "content": "a"}], "chosen": "b", "rejected": "c"}, "'wizard'"),
    ],
)
def test_what_is_no_preference_says_why(row: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        item_of(row, "set")


def test_lines_keep_their_numbers_and_bad_ones_their_reason(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n\n{"b"\n[1]\n\xff\n'))
    found = list(read(path))
    assert found[0] == (1, {"a": 1})
    assert [(number, str(row)[:8]) for number, row in found[1:]] == [
        (3, "not JSON"), (4, "a JSON l"), (5, "not JSON"),
    ]  # fmt: skip


def test_parquet_is_read_row_by_row(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "set.parquet"
    parquet.write_rows(path, [SAME["messages"], SAME["messages"]])
    assert [item_of(row, "set").item_id for _, row in read(path) if isinstance(row, dict)] == [
        item_of(SAME["text"], "set").item_id
    ] * 2


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read.*name a file"):
        list(read(tmp_path / "none.jsonl"))

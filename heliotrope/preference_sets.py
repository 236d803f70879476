"""Existing preference sets as items to ingest: the columns that TRL reads, and HH-RLHF's transcripts.

    prompt, chosen, rejected        text, or lists of {"role", "content"}; a prompt may also be such a list as JSON
    chosen, rejected                lists with the prompt in front of both, or HH-RLHF's "\\n\\nHuman: … \\n\\nAssistant: …"
    prompt, completion, label       one response, good (true) or bad (false)

Files are JSON lines (.jsonl, .json, also .gz) or Parquet.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

from heliotrope.errors import ConfigError, InvalidInput
from heliotrope.v1 import common_pb2, feedback_pb2, ingest_pb2

Turns = list[tuple[str, str]]
ROLES = {"system": common_pb2.ROLE_SYSTEM, "user": common_pb2.ROLE_USER, "human": common_pb2.ROLE_USER,
         "assistant": common_pb2.ROLE_ASSISTANT, "gpt": common_pb2.ROLE_ASSISTANT}  # fmt: skip
_TURN = re.compile(r"\n\n(Human|Assistant):")
_FOREIGN = re.compile(r"[^A-Za-z0-9._/-]+")


def read(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line number, from 1, and row of each line; or the reason why the line is none. Raises ConfigError for the file."""
    if path.suffix == ".parquet":
        yield from enumerate(_parquet(path), 1)
        return
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _row(line)


def item_of(row: dict[str, Any], origin: str = "", judge_column: str = "judge") -> ingest_pb2.IngestedItem:
    """The item of one row, its id made from its content. origin: for rows without a `source` of their own.

    Raises InvalidInput saying what the row lacks.
    """
    prompt, responses, feedback = _judged(row)
    item = ingest_pb2.IngestedItem(
        responses=responses, feedback=feedback, judge=str(row.get(judge_column) or ""),
        origin=_FOREIGN.sub("-", str(row.get("source") or origin))[:64],
        messages=[common_pb2.Message(role=_role(role), content=text) for role, text in prompt],
    )  # fmt: skip
    item.item_id = hashlib.sha256(item.SerializeToString(deterministic=True)).hexdigest()
    return item


def transcript(text: str) -> Turns:
    """HH-RLHF's format: turns that begin with a blank line and "Human:" or "Assistant:". Raises InvalidInput."""
    parts = _TURN.split(text)
    if parts[0].strip() or len(parts) < 3:
        raise InvalidInput('the transcript does not begin with "\\n\\nHuman:"')
    turns = zip(parts[1::2], parts[2::2], strict=True)
    return [("user" if who == "Human" else "assistant", said.strip()) for who, said in turns]


def _judged(row: dict[str, Any]) -> tuple[Turns, list[str], feedback_pb2.Feedback]:
    if "chosen" in row and "rejected" in row:
        chosen, rejected = _turns("chosen", row["chosen"]), _turns("rejected", row["rejected"])
        prompt = _prompt(row["prompt"]) if row.get("prompt") is not None else _shared(chosen, rejected)
        texts = [_answer("chosen", chosen, prompt), _answer("rejected", rejected, prompt)]
        if texts[0] == texts[1]:
            raise InvalidInput("chosen and rejected are the same text")
        comparison = feedback_pb2.Comparison(choice=feedback_pb2.CHOICE_A)
        return prompt, texts, feedback_pb2.Feedback(comparison=comparison)
    if "completion" in row and isinstance(row.get("label"), bool) and "prompt" in row:
        prompt = _prompt(row["prompt"])
        text = _answer("completion", _turns("completion", row["completion"]), prompt)
        return (
            prompt,
            [text],
            feedback_pb2.Feedback(thumb=feedback_pb2.Thumb(response_id="0", up=row["label"])),
        )
    raise InvalidInput(
        f"the columns {', '.join(sorted(row))[:200]} are no preference; "
        "there must be chosen and rejected, or prompt, completion and a label of true or false"
    )


def _turns(name: str, value: object) -> Turns:
    """Text is one answer, or a transcript when it begins like one; a list holds messages."""
    if isinstance(value, str):
        return transcript(value) if _TURN.match(value) else [("assistant", value)]
    return _messages(name, value)


def _prompt(value: object) -> Turns:
    if not isinstance(value, str):
        return _messages("prompt", value)
    if value.lstrip().startswith("["):
        try:
            return _messages("prompt", json.loads(value))
        except (ValueError, InvalidInput):
            return [("user", value)]
    return transcript(value) if _TURN.match(value) else [("user", value)]


def _messages(name: str, value: object) -> Turns:
    if not isinstance(value, Sequence) or not value:
        raise InvalidInput(f"{name} is {type(value).__name__}, neither text nor a list of messages")
    turns = []
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise InvalidInput(f"{name} holds a message without role and content")
        turns.append((str(message.get("role")), message["content"]))
    return turns


def _shared(chosen: Turns, rejected: Turns) -> Turns:
    """All but the last turn, which must be the same in both."""
    if len(chosen) < 2 or chosen[:-1] != rejected[:-1]:
        raise InvalidInput("there is no prompt, and chosen and rejected do not begin with the same turns")
    return chosen[:-1]


def _answer(name: str, turns: Turns, prompt: Turns) -> str:
    """The one assistant turn after the prompt, which the column may repeat."""
    left = turns[len(prompt) :] if turns[: len(prompt)] == prompt else turns
    if len(left) != 1 or left[0][0] not in ("assistant", "gpt"):
        raise InvalidInput(f"{name} is not one answer of the assistant after the prompt")
    return left[0][1]


def _role(name: str) -> common_pb2.Role:
    if name not in ROLES:
        raise InvalidInput(f"role {name[:40]!r} is unknown; use {', '.join(ROLES)}")
    return ROLES[name]


def _row(line: bytes) -> dict[str, Any] | str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return row if isinstance(row, dict) else f"a JSON {type(row).__name__}, not an object"


def _opened(path: Path) -> gzip.GzipFile | BufferedReader:
    try:
        return gzip.open(path) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}; name a file of JSON lines or Parquet") from error


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    from heliotrope.parquet import read_rows

    yield from read_rows(path)

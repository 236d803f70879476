"""Human-labelled pairs of a JSON Lines file, as chats and as token ids."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from feedback.examples import Preference
from heliotrope.chat import ChatFormat, Message


@dataclass(frozen=True)
class Pair:
    """One comparison: a person preferred `chosen`."""

    id: str
    source: str
    messages: tuple[Message, ...]
    """What the two responses answer."""
    chosen: str
    rejected: str

    @property
    def prompt(self) -> str:
        """The prompt's identity: pairs with the same one belong to one fold."""
        return json.dumps([(m.role, m.content) for m in self.messages])


def load_pairs(path: Path) -> list[Pair]:
    """Every pair of the file. A prompt is a string, or a JSON list of role/content messages."""
    with path.open() as file:
        return [_pair(json.loads(line)) for line in file]


def shuffled(pairs: Iterable[Pair]) -> list[Pair]:
    """In an order that depends on the ids alone."""
    return sorted(pairs, key=lambda pair: sha256(pair.id.encode()).digest())


def preference(pair: Pair, chat: ChatFormat) -> Preference:
    """The pair as the learner takes it, both responses closed by the end token."""
    end = (min(chat.eos_ids),)
    return Preference(
        id=pair.id,
        event_ids=(pair.id,),
        prompt_ids=tuple(chat.prompt_ids(pair.messages)),
        chosen_ids=(*chat.response_ids(pair.chosen), *end),
        rejected_ids=(*chat.response_ids(pair.rejected), *end),
        user=pair.id,
        conversation=pair.id,
        time=0.0,
        source="imported",
    )


def fitting(file: Path, chat: ChatFormat, most: int) -> Iterator[Pair]:
    """The pairs of a file whose prompt with the longer response has at most `most` tokens, in an order of the ids alone."""
    return (pair for pair in shuffled(load_pairs(file)) if longest(preference(pair, chat)) <= most)


def longest(example: Preference) -> int:
    """Tokens of the prompt with the longer response: what a trainer of separate rows must hold."""
    return len(example.prompt_ids) + max(len(example.chosen_ids), len(example.rejected_ids))


def row_tokens(example: Preference) -> int:
    """Tokens of the shared-prefix row."""
    return len(example.prompt_ids) + len(example.chosen_ids) + len(example.rejected_ids)


def fingerprint(rows: Iterable[Sequence[int]]) -> str:
    """Names token sequences, in whatever order: equal on both sides of a fair comparison."""
    return sha256("\n".join(sorted(json.dumps(list(row)) for row in rows)).encode()).hexdigest()


def _pair(record: dict[str, object]) -> Pair:
    prompt = str(record["prompt"])
    turns = json.loads(prompt) if prompt.startswith('[{"role"') else [{"role": "user", "content": prompt}]
    messages = tuple(Message(turn["role"], turn["content"]) for turn in turns)  # pyright: ignore[reportArgumentType]
    # A response that begins with a space would merge with the template's last token on one side only.
    return Pair(
        str(record["id"]),
        str(record["source"]),
        messages,
        str(record["chosen"]).strip(),
        str(record["rejected"]).strip(),
    )

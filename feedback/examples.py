"""What feedback teaches, as plain values: preferences, thumbs, corrections, grades, demonstrations, and a set's hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

TokenIds = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Example:
    """What every example says of where it comes from.

    id: the judgement's event id, with a suffix where one judgement makes several examples. event_ids: the judgement,
    then the responses that it judges. prompt_ids: the prompt as the model saw it. user: the judge's pseudonym.
    time: of the judgement, seconds since 1970. source: "human", "simulated", …. item_id: shared item, or empty.
    weight: share of one judgement, 1 is usual. held_out: kept out of training, for the judge. bounds: where in the
    prompt a person's turn begins, oldest first: only there may a prompt that is too long be shortened; empty: unknown.
    """

    id: str
    event_ids: tuple[str, ...]
    prompt_ids: TokenIds
    user: str
    conversation: str
    time: float
    source: str
    item_id: str = ""
    weight: float = 1.0
    held_out: bool = False
    bounds: TokenIds = ()


@dataclass(frozen=True, kw_only=True)
class Preference(Example):
    """One response was preferred to another one to the same prompt.

    tie: neither was; chosen and rejected are then just A and B. strength: how much better, 0 (slightly, or not asked)
    to 1 (much). partial: judged before the end, so both are prefixes at the same fraction of their length.
    """

    chosen_ids: TokenIds
    rejected_ids: TokenIds
    chosen_version: str = ""
    rejected_version: str = ""
    tie: bool = False
    strength: float = 0.0
    partial: bool = False


@dataclass(frozen=True, kw_only=True)
class Thumb(Example):
    """One response, by itself, was found good or bad. Unpaired: never to be dressed up as a duel."""

    response_ids: TokenIds
    up: bool
    version: str = ""
    partial: bool = False


@dataclass(frozen=True, kw_only=True)
class Graded(Example):
    """One response was graded: helpfulness 1 to 5, presentation 1 to 3, 0 where not given. Only differences between one
    person's grades under one prompt mean anything."""

    response_ids: TokenIds
    helpfulness: int
    presentation: int
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Demonstration(Example):
    """A person wrote what the response should have been. response_ids: their text, the end token last."""

    response_ids: TokenIds


@dataclass(frozen=True, kw_only=True)
class Correction(Example):
    """A person wrote what the response should have been, as text: whoever holds the tokenizer makes ids of it."""

    response_ids: TokenIds
    text: str
    version: str = ""

    def tokenised(self, ids: TokenIds, preferences: Iterable[Preference] = ()) -> tuple[Example, ...]:
        """The corrected text as the chosen one of pairs, weighing one judgement together, and as a demonstration, last.

        ids: tokens of `text`, the end token last. preferences: other judgements of the same response. Where the same
        person preferred the corrected response to others, the correction is better than those too: with correction >
        chosen and chosen > rejected comes correction > rejected. Of a correction of the rejected one nothing more follows.
        """
        worse: dict[TokenIds, Preference | None] = {self.response_ids: None}
        for preference in sorted((p for p in preferences if self._was_chosen(p)), key=lambda p: p.id):
            worse.setdefault(preference.rejected_ids, preference)
        worse.pop(ids, None)
        common: dict[str, Any] = {name: getattr(self, name) for name in Example.__dataclass_fields__}
        shared: dict[str, Any] = {**common, "weight": self.weight / max(1, len(worse))}
        written: dict[str, Any] = {**common, "id": f"{self.id}/text"}
        pairs = [
            Preference(
                **{**shared, **self._with(p)},
                chosen_ids=ids, rejected_ids=rejected, strength=1.0,
                rejected_version=p.rejected_version if p else self.version,
            )
            for rejected, p in worse.items()
        ]  # fmt: skip
        return *pairs, Demonstration(**written, response_ids=ids)

    def _with(self, other: Preference | None) -> dict[str, Any]:
        """What names a pair that another judgement is behind as well."""
        if other is None:
            return {}
        return {"id": f"{self.id}+{other.id}", "event_ids": (*self.event_ids, *other.event_ids)}

    def _was_chosen(self, other: Preference) -> bool:
        same = (other.user, other.prompt_ids) == (self.user, self.prompt_ids)
        return same and not (other.tie or other.partial) and other.chosen_ids == self.response_ids


class Identified(Protocol):
    """Anything with an id whose attributes are its content."""

    @property
    def id(self) -> str: ...


def content_digest(example: Identified) -> str:
    """SHA-256 (hex) of all that the example says, and of its kind."""
    content = json.dumps([type(example).__name__, vars(example)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def examples_hash(examples: Iterable[Identified]) -> str:
    """SHA-256 (hex) over the sorted (id, content digest) of a set: the same for every order of the same examples."""
    return hash_of((example.id, content_digest(example)) for example in examples)


def hash_of(digests: Iterable[tuple[str, str]]) -> str:
    """The same from (id, content digest) pairs."""
    lines = sorted(f"{id} {digest}\n" for id, digest in digests)
    return hashlib.sha256("".join(lines).encode()).hexdigest()

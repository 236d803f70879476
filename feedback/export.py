"""What may be learned from, as rows in the columns that trainers read (TRL's conversational dataset formats).

    dpo     prompt, chosen, rejected       lists of {"role", "content"}; one row a preference, ties left out
    reward  chosen, rejected               whole conversations: the prompt is implicit
    kto     prompt, completion, label      one row a judgement of a single response
    sft     prompt, completion             what people wrote as the right answer (corrections)

Every row also has `id`, `source`, `held_out` and, where it comes from a data set, `origin`; trainers pass them over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from feedback.examples import Correction, Example, Preference, Thumb
from feedback.join import Joiner
from heliotrope.errors import InvalidInput
from heliotrope.v1 import common_pb2
from heliotrope.v1.events_pb2 import Event

Row = dict[str, Any]
Turns = list[dict[str, str]]
Decode = Callable[[Sequence[int]], str]


def rows(
    events: Iterable[Event], form: str, sources: Collection[str], decode: Decode, held_out: float
) -> Iterator[Row]:
    """The rows of one format, by time. decode: text of token ids, special tokens left out. held_out: as a Joiner's.

    Consent, retraction and erasure count as they do in training. Raises InvalidInput for an unknown format.
    """
    if form not in FORMATS:
        raise InvalidInput(f"format {form[:40]!r} is unknown; use {', '.join(FORMATS)}")
    joiner, prompts, origins = Joiner(sources, held_out), dict[str, Turns](), dict[str, str]()
    for event in events:
        joiner.add(event)
        if event.WhichOneof("what") == "response_served":
            prompts[event.event_id] = _turns(event.response_served.messages)
        if event.origin:
            origins[event.event_id] = event.origin
    for example in joiner.joined().examples:
        prompt = prompts[example.event_ids[1]]
        for columns in FORMATS[form](example, prompt, decode):
            marks = {"id": example.id, "source": example.source, "held_out": example.held_out}
            origin = origins.get(example.event_ids[0])
            yield columns | marks | ({"origin": origin} if origin else {})


def _dpo(example: Example, prompt: Turns, decode: Decode) -> Iterator[Row]:
    if isinstance(example, Preference) and not example.tie:
        chosen, rejected = decode(example.chosen_ids), decode(example.rejected_ids)
        yield {"prompt": prompt, "chosen": _answer(chosen), "rejected": _answer(rejected)}


def _reward(example: Example, prompt: Turns, decode: Decode) -> Iterator[Row]:
    for row in _dpo(example, prompt, decode):
        yield {"chosen": prompt + row["chosen"], "rejected": prompt + row["rejected"]}


def _kto(example: Example, prompt: Turns, decode: Decode) -> Iterator[Row]:
    if isinstance(example, Thumb):
        text = decode(example.response_ids)
        yield {"prompt": prompt, "completion": _answer(text), "label": example.up}


def _sft(example: Example, prompt: Turns, decode: Decode) -> Iterator[Row]:
    if isinstance(example, Correction):
        yield {"prompt": prompt, "completion": _answer(example.text)}


FORMATS: dict[str, Callable[[Example, Turns, Decode], Iterator[Row]]] = {
    "dpo": _dpo,
    "kto": _kto,
    "reward": _reward,
    "sft": _sft,
}


def _answer(text: str) -> Turns:
    return [{"role": "assistant", "content": text}]


def _turns(messages: Iterable[common_pb2.Message]) -> Turns:
    return [
        {"role": common_pb2.Role.Name(m.role).removeprefix("ROLE_").lower(), "content": m.content}
        for m in messages
    ]

"""Messages to token ids and back: the only place that renders and tokenises chat.

Serving and learner both use it, so a prompt is the same ids everywhere. On text without special tokens the ids equal
those of transformers' `apply_chat_template`. Special tokens that a person typed are split into ordinary text: only the
template can open or close a turn.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from heliotrope.errors import InvalidInput, ModelError
from heliotrope.settings.base import DEFAULT_SYSTEM_PROMPT
from heliotrope.v1 import common_pb2

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn: who wrote it, and its plain text."""

    role: Role
    content: str


def sha256_files(paths: Iterable[Path]) -> str:
    """SHA-256 (hex) over the named files' bytes, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


class ChatFormat:
    """Chat template, tokenizer and end tokens of one model folder, with one explicit system prompt."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: str,
        eos_ids: frozenset[int],
        envelope: common_pb2.Envelope,
        system_prompt: str,
    ):
        self.eos_ids = eos_ids
        self.envelope = envelope
        self.system = system_prompt
        self._tokenizer = tokenizer
        # With this set, special tokens met in text are encoded as text; the template's own are placed by id.
        self._tokenizer.encode_special_tokens = True
        self._special = {t.content: i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special}
        self._split = re.compile(
            "(" + "|".join(re.escape(s) for s in sorted(self._special, key=len, reverse=True)) + ")"
        )
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _refuse
        self._template = environment.from_string(template)

    @classmethod
    def load(cls, folder: Path, system_prompt: str = DEFAULT_SYSTEM_PROMPT) -> ChatFormat:
        """Read `tokenizer.json`, the template, `generation_config.json` and the weights' digest of a model folder.

        Raises ModelError naming the missing file and the remedy.
        """
        tokenizer_file = _existing(folder, "tokenizer.json")
        template = _template_text(folder)
        weights = sorted(folder.glob("*.safetensors"))
        if not weights:
            raise ModelError(
                f"no safetensors weights in {folder}; run `make setup`, or point model.path at a Hugging Face folder"
            )
        envelope = common_pb2.Envelope(
            base_digest=sha256_files(weights),
            tokenizer=sha256_files([tokenizer_file]),
            template=hashlib.sha256(template.encode()).hexdigest(),
            system_prompt=hashlib.sha256(system_prompt.encode()).hexdigest(),
        )
        return cls(
            Tokenizer.from_file(str(tokenizer_file)), template, _end_ids(folder), envelope, system_prompt
        )

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids that ask the model for the next assistant turn. Raises InvalidInput when the template refuses."""
        return self._encode(self._with_system(messages), generate=True)

    def response_ids(self, text: str) -> list[int]:
        """Token ids of an assistant's answer given as text, without an end token."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def answer_ids(self, text: str) -> list[int]:
        """Token ids of a whole answer given as text, the end token last."""
        return [*self.response_ids(text), self.end_id]

    @cached_property
    def end_id(self) -> int:
        """The end token with which the template closes an answer."""
        closed = self._encode([Message("user", "?"), Message("assistant", "!")], generate=False)
        return next((i for i in reversed(closed) if i in self.eos_ids), min(self.eos_ids))

    @cached_property
    def opener(self) -> int | None:
        """The special token that opens every message and the answer asked for; None where a template has none such."""
        specials = set(self._special.values())
        asked = self._encode([Message("user", "?"), Message("assistant", "!")], generate=True)
        return next((i for i in asked if i in specials and asked.count(i) > 2), None)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of drawn ids; special tokens are left out."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def stream(self) -> TextStream:
        """A fresh incremental decoder for one response."""
        return TextStream(self._tokenizer)

    def _with_system(self, messages: Sequence[Message]) -> list[Message]:
        if messages and messages[0].role == "system":
            return list(messages)
        return [Message("system", self.system), *messages]

    def _encode(self, messages: Sequence[Message], *, generate: bool) -> list[int]:
        text, masks = self._render(messages, generate=generate)
        ids: list[int] = []
        for piece in self._split.split(text):
            if piece in self._special:
                ids.append(self._special[piece])
            elif piece:
                for mask, original in masks.items():
                    piece = piece.replace(mask, original)
                ids.extend(self._tokenizer.encode(piece, add_special_tokens=False).ids)
        return ids

    def _render(self, messages: Sequence[Message], *, generate: bool) -> tuple[str, dict[str, str]]:
        """The template's text, with special tokens inside contents hidden behind masks (mask → original)."""
        contents = "".join(m.content for m in messages)
        # Random, not grown from the text: a sender must not choose how long the mask is, nor how long it is sought.
        while (mark := f"\ue000{secrets.token_hex(8)}.") in contents:
            continue
        masks = {f"{mark}{i}\ue001": special for i, special in enumerate(self._special)}
        hide = {special: mask for mask, special in masks.items()}
        turns = [
            {"role": m.role, "content": self._split.sub(lambda hit: hide[hit[0]], m.content)}
            for m in messages
        ]
        try:
            text = self._template.render(messages=turns, add_generation_prompt=generate)
        except TemplateError as error:
            raise InvalidInput(f"the chat template refuses these messages: {error}") from error
        return text, masks


class TextStream:
    """Ids in, text out, never half a character; what was pushed and flushed equals `decode` of all ids."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._sent = 0

    def push(self, ids: Sequence[int]) -> str:
        """Text that became whole by these ids; may be empty."""
        self._ids.extend(ids)
        text = "".join(self._decoder.step(self._tokenizer, i) or "" for i in ids)
        self._sent += len(text)
        return text

    def flush(self) -> str:
        """What is left at the end, such as the replacement character of half a character."""
        rest = self._tokenizer.decode(self._ids, skip_special_tokens=True)[self._sent :]
        self._sent += len(rest)
        return rest


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _existing(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise ModelError(
            f"no {name} in {folder}; run `make setup`, or point model.path at a Hugging Face folder"
        )
    return path


def _template_text(folder: Path) -> str:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text()
    text = json.loads(_existing(folder, "tokenizer_config.json").read_text()).get("chat_template")
    if not isinstance(text, str):
        raise ModelError(
            f"{folder} has no chat template; Heliotrope needs a chat model, not a bare language model"
        )
    return text


def _end_ids(folder: Path) -> frozenset[int]:
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            ends = json.loads((folder / name).read_text()).get("eos_token_id")
            if ends is not None:
                return frozenset(ends if isinstance(ends, list) else [ends])
    raise ModelError(f"{folder} names no eos_token_id in generation_config.json or config.json")

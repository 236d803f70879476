"""The one door to a language model: everything that generates or scores goes through `Engine`.

Two implementations: `serving.engine_vllm.VllmEngine` (CPU and GPU alike) and the scripted one in `tests/serving/`.
An engine takes tokens and gives tokens. It knows no users, no roles and no text; those belong to its callers.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from heliotrope.errors import InvalidInput, Unavailable

Finish = Literal["stop", "length"]

MAX_TEMPERATURE = 2.0


class EngineError(Unavailable):
    """The engine did not start, died, or does not hold what it should. The message says what to do."""


@dataclass(frozen=True)
class Sampling:
    """How to draw one response. Learnable traffic samples by temperature only.

    temperature: in [0, 2]; 0 is greedy. max_tokens: at least 1, the end token included.
    Raises InvalidInput when either is out of range or not a number.
    """

    temperature: float
    max_tokens: int

    def __post_init__(self) -> None:
        t, n = self.temperature, self.max_tokens
        if isinstance(t, bool) or not isinstance(t, int | float) or not math.isfinite(t):
            raise InvalidInput(
                f"temperature {t!r} is not a number; give one between 0 and {MAX_TEMPERATURE:g}"
            )
        if not 0 <= t <= MAX_TEMPERATURE:
            raise InvalidInput(
                f"temperature {t!r} is out of range; give one between 0 and {MAX_TEMPERATURE:g}"
            )
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise InvalidInput(f"max_tokens {n!r} is not a whole number of at least 1; give one")


@dataclass(frozen=True)
class Adapter:
    """One LoRA adapter on disk, read only.

    version: `policy-v3`, or `shadow-<sha12>` for one that is only sampled from.
    digest: sha256 (hex) of its adapter_model.safetensors. path: the folder that holds it. loaded_as: the name that
    its slot has in the engine, when that was loaded under another version's.
    """

    version: str
    digest: str
    path: Path
    loaded_as: str = ""

    @property
    def name(self) -> str:
        """Version and content together: prefix-cache keys follow the name, so no name ever means two weights."""
        return self.loaded_as or f"{self.version}-{self.digest[:12]}"


@dataclass(frozen=True)
class Piece:
    """What came out since the last piece.

    logprobs: nats, of each sampled token under the distribution that it was sampled from (after temperature;
    with temperature 0 that of the plain softmax). finish: None until the last piece; `stop` means that the last
    token is an end token.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish | None = None


def check_room(prompt_ids: Sequence[int], max_tokens: int, limit: int) -> None:
    """Raise InvalidInput unless prompt and response fit in the model's context of `limit` tokens."""
    if not prompt_ids:
        raise InvalidInput("the prompt has 0 tokens; give at least one message")
    if len(prompt_ids) + max_tokens > limit:
        raise InvalidInput(
            f"a prompt of {len(prompt_ids)} tokens and max_tokens = {max_tokens} exceed the context of {limit} tokens; "
            f"shorten the conversation or ask for at most {max(0, limit - len(prompt_ids))} tokens"
        )


class Engine(Protocol):
    """Generates and scores with the base model or one of the loaded adapters. One event loop owns an engine."""

    @property
    def max_model_len(self) -> int:
        """Prompt and response together, in tokens."""
        ...

    @property
    def dtype(self) -> str:
        """`float32` or `bfloat16`: decides how near two scores of the same tokens must be."""
        ...

    async def start(self) -> None:
        """Load the base model and check the engine's parts. Raises EngineError with the remedy."""
        ...

    def generate(
        self, request_id: str, prompt_ids: Sequence[int], sampling: Sampling, adapter: Adapter | None
    ) -> AsyncIterator[Piece]:
        """Stream one response; closing the iterator aborts it.

        Raises InvalidInput (on the first step) for what does not fit, EngineError when the adapter is not resident
        or the engine has died.
        """
        ...

    async def load(self, adapter: Adapter) -> None:
        """Put the adapter into a free slot and pin it. Raises EngineError when no slot is free or vLLM refuses it."""
        ...

    async def unload(self, adapter: Adapter) -> None:
        """Free the adapter's slot; unloading one that is not resident does nothing."""
        ...

    async def slot_hashes(self, adapter: Adapter) -> dict[str, str]:
        """sha256 of every non-zero A and B really in the adapter's slot, by `<module>.lora_A|lora_B`."""
        ...

    async def file_hashes(self, adapter: Adapter) -> dict[str, str]:
        """What `slot_hashes` must equal, computed from the file alone (same cast and scaling).

        Raises EngineError when the file is not the one that `adapter.digest` names.
        """
        ...

    async def score(self, token_ids: Sequence[int], adapter: Adapter | None) -> list[float]:
        """Log-probabilities (nats, temperature 1) of token_ids[1:] given what precedes each: one fewer than the ids."""
        ...

    async def check(self) -> None:
        """Raise Unavailable when the engine is dead."""
        ...

    async def stop(self) -> None:
        """End every process of the engine; a second call does nothing."""
        ...

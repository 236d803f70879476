"""Does a loaded adapter speak as its trainer recorded? Forced tokens, served log-probabilities against the trainer's.

Catches what hashes cannot: the right weights used wrongly (scaling, layout, leaking operations, wrong base).
Tolerances: DESIGN §5 (bfloat16 differs by 0.045 nats a token with nothing wrong; float32 by 0.0001 at most).
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heliotrope.adapter_files import BEHAVIOUR
from heliotrope.errors import RegistryError
from serving.engine import Adapter, Engine, EngineError
from serving.pace import Pace


@dataclass(frozen=True)
class Limits:
    """float32, bfloat16: largest mean |served − recorded|, nats a token. apart: how far the records of version and
    base must lie from each other, in the mean, before the served one has to be nearer its own."""

    min_prompts: int = 16
    min_tokens: int = 256
    float32: float = 1e-3
    bfloat16: float = 0.10
    apart: float = 0.02

    def tolerance(self, *dtypes: str) -> float:
        """For an engine and a trainer of these."""
        return self.float32 if set(dtypes) == {"float32"} else self.bfloat16


@dataclass(frozen=True)
class Item:
    """One prompt: log-probabilities (nats, temperature 1) of token_ids[start:] by the version, its parent and base."""

    token_ids: tuple[int, ...]
    start: int
    own: tuple[float, ...]
    parent: tuple[float, ...]
    base: tuple[float, ...]

    def __post_init__(self) -> None:
        n = len(self.token_ids) - self.start
        if not 1 <= self.start < len(self.token_ids) or {len(self.own), len(self.parent), len(self.base)} != {
            n
        }:
            raise ValueError(
                f"start {self.start} of {len(self.token_ids)} tokens, {len(self.own)} log-probabilities"
            )
        if not all(math.isfinite(x) and x <= 1e-6 for x in (*self.own, *self.parent, *self.base)):
            raise ValueError("a log-probability is positive or not finite")


@dataclass(frozen=True)
class Record:
    """What a trainer said of some prompts; dtype: of its base's products."""

    items: tuple[Item, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Figures:
    """What the check measured: means of |served − record| over all forced tokens, nats."""

    prompts: int
    tokens: int
    from_own: float
    from_parent: float
    from_base: float


def read_record(folder: Path, limits: Limits = Limits()) -> Record:
    """The trainer's record of a version. Raises RegistryError when it is missing, malformed or too short."""
    path = folder / BEHAVIOUR
    try:
        raw = json.loads(path.read_bytes())
        items = tuple(_item(**item) for item in raw["items"])
    except FileNotFoundError as error:
        raise RegistryError(f"{folder} has no {BEHAVIOUR}; publish the version with its record") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(
            f"{path} is not a record of forced tokens ({error}); publish the version again"
        ) from error
    tokens = sum(len(item.own) for item in items)
    if len(items) < limits.min_prompts or tokens < limits.min_tokens:
        wanted = f"{limits.min_tokens} tokens over {limits.min_prompts} prompts"
        raise RegistryError(
            f"{path} forces {tokens} tokens over {len(items)} prompts; record at least {wanted}"
        )
    return Record(items, str(raw.get("dtype", "float32")))


def _item(token_ids: list[int], start: int, own: list[float], parent: list[float], base: list[float]) -> Item:
    return Item(tuple(token_ids), start, tuple(own), tuple(parent), tuple(base))


async def check_behaviour(
    engine: Engine, adapter: Adapter, record: Record, limits: Limits, pace: Pace
) -> Figures:
    """Score every item with the loaded adapter. Raises EngineError when it does not speak as recorded."""
    items, scores = record.items, list[list[float]]()
    took = 0.0
    while left := items[len(scores) :]:
        await pace.rest(took)
        began = time.monotonic()
        scores += await asyncio.gather(*(engine.score(i.token_ids, adapter) for i in left[: pace.lot()]))
        took = time.monotonic() - began
    served = [x for item, row in zip(items, scores, strict=True) for x in row[item.start - 1 :]]
    own, parent, base = (
        [x for item in items for x in getattr(item, who)] for who in ("own", "parent", "base")
    )
    figures = Figures(len(items), len(served), *(mean_gap(served, record) for record in (own, parent, base)))
    limit = limits.tolerance(engine.dtype, record.dtype)
    if not figures.from_own <= limit:
        raise EngineError(
            f"{adapter.version} speaks {figures.from_own:.4f} nats a token away from its trainer's record, over the "
            f"{limit:g} allowed between {record.dtype} there and {engine.dtype} here; check that the base model is the trainer's"
        )
    if mean_gap(own, base) > limits.apart and figures.from_own >= figures.from_base:
        raise EngineError(
            f"{adapter.version} speaks like the base model ({figures.from_base:.4f} nats a token away from base, "
            f"{figures.from_own:.4f} from its own record); the adapter is not in effect"
        )
    return figures


def mean_gap(a: Sequence[float], b: Sequence[float]) -> float:
    """Mean of |aᵢ − bᵢ|; NaN where any is."""
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / len(a)

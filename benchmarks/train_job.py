"""What one process of `benchmarks.train` is asked to do, and what it answers."""

from __future__ import annotations

import json
import resource
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from benchmarks.pairs import Pair
from heliotrope.chat import Message

Task = Literal["dpo", "reward", "kto", "sft"]
TASKS: tuple[Task, ...] = ("dpo", "reward", "kto", "sft")


@dataclass(frozen=True)
class Job:
    """One training by one side. Files: pairs as `write_pairs` writes them."""

    task: Task
    model: str
    train: str
    warm: str
    held_out: str
    order: tuple[str, ...] = ()
    """Ids in the order to train in; empty: the side's own."""
    setting: str = ""
    """TRL: which row of its settings; ours: "cached" has the reference pass done before the clock starts."""
    dtype: str = "float32"
    """Of our frozen base; TRL's is its setting's."""
    rank: int = 16
    alpha: float = 32.0
    batch: int = 8
    max_tokens: int = 512
    learning_rate: float = 1e-4
    device: str = "cpu"
    threads: int = 0
    scratch: str = ""
    """An empty folder of its own."""

    def dumps(self) -> str:
        """As one argument of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Job:
        """What `dumps` wrote."""
        values = json.loads(text)
        return cls(**values | {"order": tuple(values["order"])})


@dataclass(frozen=True)
class Outcome:
    """What a side measured, from texts to trained adapter."""

    seconds: float
    peak_gb: float
    """Highest resident memory of the whole process (CUDA: allocated memory), 10^9 bytes."""
    loss: float
    """Mean over the pass, each example before it was learned from."""
    accuracy: float
    """Held-out pairs ordered as people did, 0 to 1."""
    fingerprint: str
    """Of the token ids that were trained on."""
    order: tuple[str, ...] = ()


def peak_gb(device: str) -> float:
    """The process's highest memory so far, 10^9 bytes."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def write_pairs(path: Path, pairs: list[Pair]) -> str:
    """One JSON line a pair; returns the path."""
    path.write_text("".join(json.dumps(asdict(pair)) + "\n" for pair in pairs))
    return str(path)


def read_pairs(path: str) -> list[Pair]:
    """What `write_pairs` wrote."""
    records = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [
        Pair(**record | {"messages": tuple(Message(**turn) for turn in record["messages"])})
        for record in records
    ]

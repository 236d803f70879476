"""Work that needs nothing of its neighbours goes side by side, one thread each: threads that share a small product wait for each other
longer than they multiply (docs/experiments.md, "The learner's core")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Made = TypeVar("Made")

MOST_WORKERS = 8
"""Each holds the logits of some hundred tokens."""


def workers_on(device: torch.device) -> int:
    """How many work at once: as many as torch has threads on a CPU, and one where the device shares itself out."""
    return min(MOST_WORKERS, torch.get_num_threads()) if device.type == "cpu" else 1


def side_by_side(work: Callable[[Item], Made], items: Sequence[Item], workers: int) -> Iterator[Made]:
    """What `work` makes of each item, in their order, by so many workers at once; what it raises is raised in that order too.

    The same bits for any number of workers: each item has one thread to itself.
    """
    with one_thread():
        if min(workers, len(items)) < 2:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(min(workers, len(items)), "work", torch.set_num_threads, (1,)) as pool:
            yield from pool.map(work, items)


@contextmanager
def one_thread() -> Iterator[None]:
    """Products are not shared between threads until the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

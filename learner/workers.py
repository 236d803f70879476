"""Work that needs nothing of its neighbours goes side by side, on threads of its own: threads that share a small product wait for each
other longer than they multiply (docs/experiments.md, "Batches side by side")."""

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


def side_by_side(
    work: Callable[[Item], Made], items: Sequence[Item], workers: int, threads: int = 0
) -> Iterator[Made]:
    """What `work` makes of each item, in their order, by so many workers at once; what it raises is raised in that order too.

    threads: of each worker; 0: its share of torch's. The same number gives the same bits, however many work.
    """
    workers = max(1, min(workers, len(items)))
    threads = threads or max(1, torch.get_num_threads() // workers)
    with _threads(threads):
        if workers == 1:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(workers, "work", torch.set_num_threads, (threads,)) as pool:
            yield from pool.map(work, items)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def on_one_thread(work: Callable[[], Made]) -> Made:
    """The work on one thread."""
    with _threads(1):
        return work()

"""The programs that are killed: serving as `python -m serving` runs it, without its page and with a scripted engine.

Each life is forked from a process that has imported everything once (multiprocessing's fork server), so that a start
takes a tenth of a second and not two; it is a process of its own, that nobody shares memory with.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import feedback.kafka_link
import feedback.kafka_log
import feedback.sqlite_log
from benchmarks.faults.bugs import plant
from benchmarks.scripted_engine import ScriptedEngine, number
from benchmarks.small_model import scripted_engine
from heliotrope.chat import ChatFormat
from heliotrope.config import Config
from heliotrope.failpoints import VARIABLE
from serving.build import build

PRELOADED = (feedback.kafka_link, feedback.kafka_log)


@dataclass(frozen=True)
class Orders:
    """What one life is to be. failpoints: as heliotrope/failpoints.py reads them. checkpoint_bytes: how much is written
    between two checkpoints. bug: one that is planted on purpose (bugs.py). output: file of what it says."""

    config: Config
    failpoints: str
    checkpoint_bytes: int
    bug: str
    output: Path


def serve(orders: Orders) -> None:
    """Serve until SIGTERM."""
    settle(orders)
    asyncio.run(_serve(orders.config))


def learn(orders: Orders) -> None:
    """Learn until SIGTERM."""
    from benchmarks.faults.learner_program import run_learner  # torch: only the fork server has it

    run_learner(orders)


async def _serve(config: Config) -> None:
    chat = ChatFormat.load(config.model.folder, config.model.system_prompt)
    server, stop = build(config, engine=quick_engine(chat), chat=chat), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    try:
        await server.start()
        await server.serve(stop)
        await server.drain()
    finally:
        await server.close()


def quick_engine(chat: ChatFormat) -> ScriptedEngine:
    """Answers of a few letters, other ones to each request: of two that are the same nothing could be learned."""
    engine = scripted_engine(chat)
    letters = engine.words
    engine.script = lambda prompt, adapter, request: [
        letters[number(request, i) % len(letters)] for i in range(8)
    ]
    return engine


def settle(orders: Orders) -> None:
    """A life of its own: its failpoints, its output, its planted bug, and an end when the run ends."""
    os.environ[VARIABLE] = orders.failpoints
    output = os.open(orders.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kafka").setLevel(logging.WARNING)
    feedback.sqlite_log.CHECKPOINT_BYTES = orders.checkpoint_bytes
    plant(orders.bug)
    threading.Thread(target=_end_with_parent, name="end with the run", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

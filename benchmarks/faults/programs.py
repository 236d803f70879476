"""The programs that are killed: serving as `python -m serving` runs it, without its page and with a scripted engine.

Each life is forked from a process that has imported everything once (multiprocessing's fork server), so that a start
takes a tenth of a second and not two; it is a process of its own, that nobody shares memory with.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import multiprocessing
import os
import signal
import threading
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import feedback.kafka_link
import feedback.kafka_log
from benchmarks.faults.bugs import plant
from benchmarks.faults.clients import Talk
from benchmarks.faults.quick_engine import QuickEngine
from benchmarks.faults.votes_load import Load, Sent, measure
from benchmarks.small_model import scripted_engine, small_format
from heliotrope.chat import ChatFormat
from heliotrope.config import Config
from heliotrope.failpoints import VARIABLE
from heliotrope.identity import DEFAULT_TENANT
from heliotrope.v1 import common_pb2, feedback_pb2
from serving.build import build
from serving.caller import Caller
from serving.server import settle_heap
from serving.tickets import Tickets

PRELOADED = (feedback.kafka_link, feedback.kafka_log)


@dataclass(frozen=True)
class Orders:
    """What one life is to be. failpoints: as heliotrope/failpoints.py reads them. bug: one that is planted on purpose
    (bugs.py). output: file of what it says."""

    config: Config
    failpoints: str
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
    server, stop = build(config, engine=scripted_engine(chat, kind=QuickEngine), chat=chat), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    try:
        await server.start()
        settle_heap()
        await server.serve(stop)
        await server.drain()
    finally:
        await server.close()


def serve_calls(orders: Orders, load: Load, output: Path) -> None:
    """Serve, and give the votes of a load from within: all that a vote costs below gRPC."""
    settle(orders)
    output.write_text(json.dumps(asdict(asyncio.run(_calls(orders.config, load)))))


async def _calls(config: Config, load: Load) -> Sent:
    server = build(config, engine=scripted_engine(chat := small_format()), chat=chat)
    try:
        await server.start()
        settle_heap()
        votes = server.services.feedback.votes
        people = [Caller(DEFAULT_TENANT, f"{place:032x}") for place in range(load.talks)]
        talks = [signed(votes.tickets, person) for person in people]

        async def give(number: int, request: feedback_pb2.GiveFeedbackRequest, place: int) -> str:
            return (await votes.give(request, people[place])).feedback_id

        return await measure(replace(load, serving=os.getpid()), talks, give)
    finally:
        await server.close()


def signed(tickets: Tickets, person: Caller) -> Talk:
    """A ticket as a chat gives it."""
    name, conversation = str(uuid.uuid4()), str(uuid.uuid4())
    ticket = feedback_pb2.Ticket(
        tenant=person.tenant, user=person.user, conversation_id=conversation, expires_at=1 << 40,
        source=common_pb2.SOURCE_HUMAN, purpose=common_pb2.PURPOSE_CHAT, consent=True,
        answers=[feedback_pb2.TicketAnswer(response_id=name)],
    )  # fmt: skip
    return Talk(conversation, tickets.sign(ticket), (name,))


def settle(orders: Orders) -> None:
    """A life of its own: its failpoints, its output, its planted bug, and an end when the run ends."""
    os.environ[VARIABLE] = orders.failpoints
    output = os.open(orders.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.register(signal.SIGUSR1)  # says where it stands when it does not end
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kafka").setLevel(logging.WARNING)
    plant(orders.bug)
    threading.Thread(target=_end_with_parent, name="end with the run", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

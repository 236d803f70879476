"""The whole serving process in a test: real sockets, a real SQLite log, a scripted engine in place of vLLM."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import grpc
import pytest

from benchmarks.scripted_engine import ScriptedEngine, logprob
from benchmarks.small_model import BASE_DIGEST, scripted_engine, small_format
from deploy.children import free_ports
from feedback.log import read_all
from heliotrope.chat import ChatFormat
from heliotrope.config import Config, load
from heliotrope.registry import PolicyVersion, Registry
from heliotrope.v1 import (
    admin_pb2_grpc,
    chat_pb2,
    chat_pb2_grpc,
    events_pb2,
    feedback_pb2,
    feedback_pb2_grpc,
    ingest_pb2_grpc,
    policy_pb2_grpc,
    privacy_pb2_grpc,
    sampler_pb2_grpc,
)
from serving.build import build
from serving.engine import Adapter
from serving.server import Server
from tests.heliotrope.small_adapters import stage

ALICE = (("x-heliotrope-user", "a" * 32),)
BOB = (("x-heliotrope-user", "b" * 32),)
ids = count(1)


def settings(state: Path, *overrides: str) -> Config:
    """The defaults in a folder of their own, on free ports, with comparisons only on request."""
    public, private, http = free_ports(3)
    return load(
        None,
        [
            f"paths.state={state}", f"serving.public_port={public}", f"serving.private_port={private}",
            f"serving.http_port={http}", "serving.drain_seconds=5", "comparisons.share=1e-12", *overrides,
        ],
    )  # fmt: skip


def request(message: str = "hello", **fields) -> chat_pb2.ChatRequest:
    """A chat request with a fresh request_id."""
    return chat_pb2.ChatRequest(**{"request_id": f"r{next(ids)}", "message": message, **fields})


def publish(
    registry: Registry, fill: float, *, passed: bool = True, base: str = BASE_DIGEST
) -> PolicyVersion:
    """A version whose record the scripted engine fulfils: 16 prompts of 18 tokens, 16 of them scored (256 in all)."""

    def write(folder: Path):
        manifest = stage(fill=fill)(folder)
        digest = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
        adapter = Adapter("", digest, folder)
        texts = [[k, k + 1, *range(20, 36)] for k in range(16)]
        items = [
            {"token_ids": t, "start": 2, "own": [logprob(i, adapter) for i in t[2:]],
             "parent": [logprob(i, None) for i in t[2:]], "base": [logprob(i, None) for i in t[2:]]}
            for t in texts
        ]  # fmt: skip
        (folder / "behaviour.json").write_text(json.dumps({"items": items}))
        return manifest.model_copy(update={"passed": passed, "base_digest": base})

    return registry.publish(write)


@dataclass
class Answered:
    """A chat as its client saw it, to the end."""

    started: chat_pb2.ChatStarted
    texts: dict[str, str]
    ends: dict[str, chat_pb2.AnswerFinished]
    chunks: list[chat_pb2.ChatResponse]

    @property
    def ids(self) -> list[str]:
        """Response ids in the order A, B."""
        return [a.response_id for a in self.started.answers]


@dataclass
class World:
    """A running server and its clients."""

    config: Config
    engine: ScriptedEngine
    server: Server
    public: grpc.aio.Channel
    private: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.chats = chat_pb2_grpc.ChatServiceStub(self.public)
        self.votes = feedback_pb2_grpc.FeedbackServiceStub(self.public)
        self.private_chats = chat_pb2_grpc.ChatServiceStub(self.private)
        self.policies = policy_pb2_grpc.PolicyServiceStub(self.private)
        self.samples = sampler_pb2_grpc.SamplerServiceStub(self.private)
        self.privacy = privacy_pb2_grpc.PrivacyServiceStub(self.private)
        self.admin = admin_pb2_grpc.AdminServiceStub(self.private)
        self.ingest = ingest_pb2_grpc.IngestServiceStub(self.private)
        self.registry = Registry(self.config.paths.registry)

    async def chat(self, message: str = "hello", who: Sequence = ALICE, stub=None, **fields) -> Answered:
        """One chat, read to its end."""
        return await read((stub or self.chats).Chat(request(message, **fields), metadata=who))

    async def give(
        self, ticket: str, who: Sequence = ALICE, request_id: str = "", **kind
    ) -> feedback_pb2.GiveFeedbackResponse:
        """One judgement: `thumb=…`, `comparison=…` and so on."""
        asked = feedback_pb2.GiveFeedbackRequest(
            request_id=request_id or f"r{next(ids)}",
            feedback_tickets=[ticket],
            feedback=feedback_pb2.Feedback(**kind),
        )
        return await self.votes.GiveFeedback(asked, metadata=who)

    def events(self, topic: str, what: str) -> list[events_pb2.Event]:
        """The logged events of one kind."""
        log = self.server.replies.journal.store
        return [r.event for r in read_all(log, topic) if r.event and r.event.WhichOneof("what") == what]

    def counts(self) -> dict[str, int]:
        """Where every topic ends: unchanged means that nothing was written."""
        journal = self.server.replies.journal
        return {topic: journal.end(topic) for topic in ("exchanges", "feedback", "policy")}


def hold_writes(world: World) -> asyncio.Event:
    """From now on nothing reaches the log until the event is set."""
    journal, durable = world.server.replies.journal, asyncio.Event()
    write = journal.write

    async def held(events: Sequence[events_pb2.Event]) -> Sequence[int]:
        await durable.wait()
        return await write(events)

    journal.write = held
    return durable


async def read(call) -> Answered:
    """Collect a stream: texts by response, checked to be gapless from 0."""
    chunks = [c async for c in call]
    assert [c.sequence for c in chunks] == list(range(len(chunks)))
    texts: dict[str, str] = {a.response_id: "" for a in chunks[0].started.answers}
    for c in chunks:
        if c.HasField("delta"):
            texts[c.delta.response_id] += c.delta.text
    ends = {c.answer_finished.response_id: c.answer_finished for c in chunks if c.HasField("answer_finished")}
    return Answered(chunks[0].started, texts, ends, chunks)


async def rest(call) -> list[chat_pb2.ChatResponse]:
    """What is left of a stream that was begun with `read()`."""
    chunks = []
    while (chunk := await call.read()) is not grpc.aio.EOF:
        chunks.append(chunk)
    return chunks


@asynccontextmanager
async def running(
    state: Path, *overrides: str, engine: ScriptedEngine | None = None, chat: ChatFormat | None = None
) -> AsyncIterator[World]:
    """Start, hand over, drain, stop."""
    chat = chat or small_format()
    engine, config = engine or scripted_engine(chat), settings(state, *overrides)
    server = build(config, engine=engine, chat=chat, vocabulary=max(258, chat.end_id + 1))
    try:
        await server.start()
        async with (
            grpc.aio.insecure_channel(config.serving.public_address) as public,
            grpc.aio.insecure_channel(config.serving.private_address) as private,
        ):
            yield World(config, engine, server, public, private)
        engine.release()
        await server.drain()
    finally:
        await server.close()


@asynccontextmanager
async def fails(code: grpc.StatusCode, *words: str) -> AsyncIterator[None]:
    """The call inside ends with this status and a message that holds all the words."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        assert error.code() == code, f"{error.code()}: {error.details()}"
        for word in words:
            assert word in (error.details() or ""), f"{word!r} is not in {error.details()!r}"
    else:
        raise AssertionError(f"the call did not fail with {code}")


async def refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    """The status and the message of a call that is to fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""

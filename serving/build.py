"""Where the parts of serving meet: one configuration in, one `Server` out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc

from feedback.open import open_reader, open_relay
from feedback.rules import training_set
from feedback.sealed_log import SealedReader, SealedStore
from feedback.sqlite_log import SqliteLog
from feedback.writer import LogWriter
from heliotrope.chat import ChatFormat
from heliotrope.config import Config
from heliotrope.errors import FailedPrecondition, ModelError
from heliotrope.identity import server_key
from heliotrope.policies import PolicyTable
from heliotrope.registry import Registry
from serving.ask import Limits
from serving.availability import Availability
from serving.caller import Caller, caller_of
from serving.comparisons import Comparisons
from serving.conversations import Conversations
from serving.engine import Engine
from serving.exports import Exports
from serving.ingest import Ingest
from serving.journal import Journal
from serving.keys import KeyStore
from serving.listeners import Services
from serving.policy_desk import PolicyDesk
from serving.privacy import Privacy
from serving.read_models import ReadModels
from serving.recovery import recover
from serving.reply import Replies
from serving.routes import Routes
from serving.rpc_admin import AdminService
from serving.rpc_chat import ChatService
from serving.rpc_feedback import FeedbackService
from serving.rpc_ingest import IngestService
from serving.rpc_policy import PolicyService
from serving.rpc_privacy import PrivacyService
from serving.rpc_sampler import SamplerService
from serving.sample_gate import SampleGate
from serving.samples import Samples
from serving.server import Server
from serving.shared_items import SharedItems, read_pool
from serving.swap import Swapper
from serving.tickets import Tickets
from serving.votes import Votes

SECONDS_A_DAY = 86_400.0


def build(
    config: Config, *, engine: Engine | None = None, chat: ChatFormat | None = None, vocabulary: int = 0
) -> Server:
    """Put the parts together; the state folder is locked and the log open when it returns, nothing listens yet.

    engine, chat, vocabulary: in place of vLLM and the configured model's format and number of token ids.
    Raises HeliotropeError with the remedy.
    """
    with contextlib.ExitStack() as closers:
        closers.enter_context(state_lock(config.paths.state))
        chat = chat or ChatFormat.load(config.model.folder, config.model.system_prompt)
        vocabulary = vocabulary or vocabulary_of(config.model.folder)
        engine = engine or vllm_engine(config, chat)
        keys = KeyStore(config.paths.people_keys, server_key(config.paths.key))
        closers.callback(keys.close)
        stored = SqliteLog(config.paths.log)
        closers.callback(stored.close)
        relay = open_relay(config, stored, closers)  # what is relayed is sealed already
        log = SealedStore(stored, keys)
        writer = LogWriter(log, admit=relay.outbox.admit) if relay else LogWriter(log)
        closers.callback(writer.stop)
        reader = SealedStore(
            SqliteLog(config.paths.log, read_only=True), keys
        )  # reads never wait for a commit
        closers.callback(reader.close)
        registry = Registry(config.paths.registry)
        whole = SealedReader(open_reader(config), keys)
        closers.callback(whole.close)
        views = ReadModels(whole, partial(training_set, config, chat), config.paths.read_models, registry)
        closers.callback(views.stop)
        server = _wire(config, engine, chat, Journal(reader, writer.append), keys, vocabulary, views)
        views.start()
        server.services.admin.relay = relay
        server.closers = closers.pop_all()
        return server


def _wire(
    config: Config,
    engine: Engine,
    chat: ChatFormat,
    journal: Journal,
    keys: KeyStore,
    vocabulary: int,
    views: ReadModels,
) -> Server:
    key, limits = server_key(config.paths.key), limits_of(config)
    table, registry = PolicyTable(), Registry(config.paths.registry)
    swapper, base = Swapper(engine, registry), chat.envelope.base_digest
    available = Availability()
    routes = Routes(swapper, registry, table, base, available)
    conversations, shared = Conversations(), SharedItems(read_pool(config.comparisons.shared_pool))
    comparisons = Comparisons(config.comparisons.share, random.SystemRandom())
    replies = Replies(engine, chat, routes, journal, conversations, comparisons, shared, limits)
    gate = SampleGate(
        config.serving.sampler_streams, config.admission.samples_beside_people, lambda: len(replies.running)
    )
    replies.changed = gate.poke
    desk = PolicyDesk(
        table,
        registry,
        swapper,
        journal,
        base,
        config.rollout.mode,
        replies.in_flight,
        replies.stop,
        available,
    )
    tickets, privacy = Tickets(key), Privacy(journal, keys, replies, views.erase)
    replies.allows = privacy.allows
    samples = Samples(engine, chat, gate, limits, config.serving.sampler_streams, vocabulary, routes.named)
    public, private = (partial(_caller, key=key, private=p) for p in (False, True))
    services = Services(
        chat=ChatService(replies, tickets, public),
        feedback=FeedbackService(
            Votes(journal, tickets, conversations, replies.tokens_sent), privacy, public
        ),
        private_chat=ChatService(replies, tickets, private),
        policy=PolicyService(desk),
        sampler=SamplerService(samples, routes.release_shadow),
        ingest=IngestService(Ingest(journal, chat, key), private),
        admin=AdminService(
            desk,
            replies,
            journal,
            engine,
            Exports(journal, chat, config.learner.held_out),
            views,
            privacy,
            private,
        ),
        privacy=PrivacyService(privacy),
    )

    async def recovery() -> int:
        lost = await recover(journal, conversations, shared, chat.envelope)
        await privacy.recover()
        return lost

    return Server(
        config.serving, engine, swapper, desk, replies, services, available, recovery, contextlib.ExitStack()
    )


def limits_of(config: Config) -> Limits:
    """The bounds that requests are checked against."""
    serving = config.serving
    return Limits(
        serving.max_chats,
        config.admission.max_queued_tokens,
        serving.max_tokens,
        serving.temperature,
        serving.ticket_days * SECONDS_A_DAY,
    )


def vllm_engine(config: Config, chat: ChatFormat) -> Engine:
    """The engine of the configuration; not started."""
    from serving.engine_vllm import EngineSettings, VllmEngine

    return VllmEngine(
        EngineSettings(
            model=config.model.folder, eos_ids=tuple(sorted(chat.eos_ids)), dtype=config.engine.dtype,
            max_model_len=config.model.max_context, max_num_seqs=config.engine.max_streams,
            max_lora_rank=config.engine.max_lora_rank, kv_cache_gib=config.engine.kv_cache_gib, threads=config.engine.threads,
        )
    )  # fmt: skip


def vocabulary_of(folder: Path) -> int:
    """How many token ids a model knows. Raises ModelError."""
    try:
        return int(json.loads((folder / "config.json").read_text())["vocab_size"])
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{folder / 'config.json'} names no vocab_size ({error}); run `make setup` or set model.path"
        ) from error


@contextlib.contextmanager
def state_lock(state: Path) -> Iterator[None]:
    """Hold the state folder; a second serving on it is refused with FailedPrecondition."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "serving.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise FailedPrecondition(
                f"{state.resolve()} is in use by another serving (process {file.read().strip() or 'unknown'}); "
                "stop that one, or set paths.state"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _caller(context: grpc.aio.ServicerContext, *, key: bytes, private: bool) -> Caller:
    return caller_of(context.invocation_metadata(), key, private)  # type: ignore[arg-type]

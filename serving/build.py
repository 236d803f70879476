"""Where the parts of serving meet: one configuration in, one `Server` out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc

from heliotrope.chat import ChatFormat
from heliotrope.config import Config
from heliotrope.errors import FailedPrecondition, ModelError
from heliotrope.identity import server_key
from heliotrope.policies import PolicyTable
from serving.ask import Limits
from serving.availability import Availability
from serving.caller import Caller, caller_of
from serving.comparisons import Comparisons
from serving.conversations import Conversations
from serving.engine import Engine
from serving.exports import Exports
from serving.feedback_stream import FeedbackStreams
from serving.ingest import Ingest
from serving.journal import Journal
from serving.listeners import Services
from serving.policy_desk import PolicyDesk
from serving.privacy import Privacy
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
from serving.stores import Stores, open_stores
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
        model = Model(
            engine or vllm_engine(config, chat), chat, vocabulary or vocabulary_of(config.model.folder)
        )
        stores = open_stores(config, chat, closers)
        server = _wire(config, model, stores)
        stores.views.start()
        server.closers = closers.pop_all()
        return server


@dataclass(frozen=True)
class Model:
    """What answers. vocabulary: how many token ids it knows."""

    engine: Engine
    chat: ChatFormat
    vocabulary: int


def _wire(config: Config, model: Model, stores: Stores) -> Server:
    table, swapper, available = PolicyTable(), Swapper(model.engine, stores.registry), Availability()
    base, journal = model.chat.envelope.base_digest, stores.journal
    routes = Routes(swapper, stores.registry, table, base, available)
    replies = _replies(config, model, routes, journal)
    desk = PolicyDesk(table, stores.registry, swapper, journal, base, config.rollout.mode, replies.in_flight, replies.stop,
                      available)  # fmt: skip
    privacy = Privacy(journal, stores.whole, stores.keys, replies, stores.views.erase)
    replies.allows = privacy.allows

    async def recovery() -> int:
        lost = await recover(journal, replies.conversations, replies.shared, model.chat.envelope)
        await privacy.recover()
        return lost

    return Server(
        config.serving, model.engine, swapper, desk, replies, _services(config, model, stores, desk, privacy), available,
        recovery, contextlib.ExitStack(),
    )  # fmt: skip


def _replies(config: Config, model: Model, routes: Routes, journal: Journal) -> Replies:
    shared = SharedItems(read_pool(config.comparisons.shared_pool))
    comparisons = Comparisons(config.comparisons.share, random.SystemRandom())
    return Replies(
        model.engine, model.chat, routes, journal, Conversations(), comparisons, shared, limits_of(config)
    )


def _services(config: Config, model: Model, stores: Stores, desk: PolicyDesk, privacy: Privacy) -> Services:
    key, journal, replies = server_key(config.paths.key), stores.journal, privacy.replies
    tickets = Tickets(key)
    public, private = (partial(_caller, key=key, private=p) for p in (False, True))
    votes = Votes(journal, tickets, replies.conversations, replies.tokens_sent)
    streams = FeedbackStreams(votes, key)
    exports = Exports(stores.whole, model.chat, config.learner.held_out)
    return Services(
        chat=ChatService(replies, tickets, public),
        feedback=FeedbackService(votes, streams, privacy, public),
        private_chat=ChatService(replies, tickets, private),
        private_feedback=FeedbackService(votes, streams, privacy, private),
        policy=PolicyService(desk),
        sampler=SamplerService(
            _samples(config, model, replies), replies.routes.release_shadow, lambda: len(replies.running)
        ),
        ingest=IngestService(Ingest(journal, model.chat, key), private),
        admin=AdminService(
            desk, replies, journal, model.engine, exports, stores.views, privacy, private, stores.relay
        ),
        privacy=PrivacyService(privacy),
    )


def _samples(config: Config, model: Model, replies: Replies) -> Samples:
    """Samples give way to people: the gate looks again whenever the number of answers has changed."""
    streams, beside = config.serving.sampler_streams, config.admission.samples_beside_people
    gate = SampleGate(streams, beside, lambda: len(replies.running))
    replies.changed = gate.poke
    return Samples(
        model.engine, model.chat, gate, replies.limits, streams, model.vocabulary, replies.routes.named
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

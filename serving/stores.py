"""What serving has on disk, and at the broker: opened once, closed last."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial

from feedback.log import Log
from feedback.open import open_reader, open_relay
from feedback.relay import Relay
from feedback.rules import training_set
from feedback.sealed_log import SealedReader, SealedStore
from feedback.sqlite_log import SqliteLog
from feedback.writer import LogWriter
from heliotrope.chat import ChatFormat
from heliotrope.config import Config
from heliotrope.identity import server_key
from heliotrope.registry import Registry
from serving.journal import Journal
from serving.keys import KeyStore
from serving.read_models import ReadModels


@dataclass(frozen=True)
class Stores:
    """journal: serving's own file, where events are committed; with a broker it is an outbox and forgets what is old.
    whole: the log as the learner reads it, from its beginning. relay: None with the embedded log."""

    journal: Journal
    whole: Log
    keys: KeyStore
    views: ReadModels
    registry: Registry
    relay: Relay | None


def open_stores(config: Config, chat: ChatFormat, closers: contextlib.ExitStack) -> Stores:
    """Everything that `closers` is to close; the read models do not follow yet. Raises LogError."""
    keys = KeyStore(config.paths.people_keys, server_key(config.paths.key))
    closers.callback(keys.close)
    stored = SqliteLog(config.paths.log)
    closers.callback(stored.close)
    relay = open_relay(config, stored, closers)  # what is relayed is sealed already
    log = SealedStore(stored, keys)
    writer = LogWriter(log, admit=relay.outbox.admit) if relay else LogWriter(log)
    closers.callback(writer.stop)
    # reads never wait for a commit
    reader = SealedStore(SqliteLog(config.paths.log, read_only=True), keys)
    closers.callback(reader.close)
    registry = Registry(config.paths.registry)
    whole = SealedReader(open_reader(config), keys)
    closers.callback(whole.close)
    views = ReadModels(whole, partial(training_set, config, chat), config.paths.read_models, registry)
    closers.callback(views.stop)
    return Stores(Journal(reader, writer.append), whole, keys, views, registry, relay)

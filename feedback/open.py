"""Which log the configuration means: the one place that knows both."""

from __future__ import annotations

import contextlib
from functools import partial

from feedback.log import Log
from feedback.outbox import Outbox
from feedback.relay import Relay
from feedback.sqlite_log import SqliteLog
from heliotrope.config import Config

PATIENCE = 1.5
"""A send without an outcome is given up after this many times kafka.timeout_seconds."""


def open_reader(config: Config) -> Log:
    """The log as the learner reads it: serving's file, or the broker. Neither needs to be there yet."""
    if config.log.kind == "sqlite":
        return SqliteLog(config.paths.log, read_only=True)
    from feedback.kafka_log import KafkaLog  # takes a second to import

    return KafkaLog(config.kafka)


def open_relay(config: Config, store: SqliteLog, closers: contextlib.ExitStack) -> Relay | None:
    """With Kafka, the thread that relays what `store` commits, started; None with the embedded log. Raises LogError."""
    if config.log.kind == "sqlite":
        return None
    from feedback.kafka_link import KafkaLink

    outbox = Outbox(store, str(config.paths.relay), config.outbox)
    closers.callback(outbox.close)
    relay = Relay(outbox, partial(KafkaLink, config.kafka), PATIENCE * config.kafka.timeout_seconds)
    relay.start()
    closers.callback(relay.stop)
    return relay

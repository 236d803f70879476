"""The log at a Kafka broker: what several machines read. Serving writes it through its outbox (feedback/relay.py).

Offsets are Kafka's plus one, so that 0 is "nothing yet", as in every log. Repeats are stored again: readers drop them.
"""

from __future__ import annotations

# The checker brings stubs of kafka-python 2, which know neither these names nor these options.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false, reportOptionalOperand=false
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from kafka import KafkaConsumer, TopicPartition

from feedback.kafka_client import Broker, Topic, consumer, errors
from feedback.kafka_events import decode
from feedback.kafka_send import Sender
from feedback.log import Event, Positions, Record, key_of, pack, place, topic_of
from heliotrope.errors import LogError
from heliotrope.settings.log import Kafka

POLL_MS, GLANCE_SECONDS = 150, 0.15
"""How long a reader at the end as the broker tells it looks for more: some (Tansu) tell an end inside the last batch."""


@dataclass
class _Reader:
    """A consumer on all partitions of one topic, and the offset that it reads next, by partition."""

    consumer: KafkaConsumer
    incarnation: str
    at: dict[int, int] = field(default_factory=dict)


class KafkaLog:
    """`Log` at a broker. Connects at the first use; a broker that is away is a LogError, and the next call tries again."""

    def __init__(self, settings: Kafka) -> None:
        self.settings = settings
        self._broker = Broker(settings)
        self._sender: Sender | None = None
        self._readers: dict[str, _Reader] = {}
        self._lock = threading.Lock()

    def append(self, events: Sequence[Event]) -> list[int]:
        """See `Log.append`; returns when all in-sync replicas have them. After a LogError some may have been written."""
        packed = [(topic_of(event), key_of(event), event, pack(event)) for event in events]
        with self._lock, errors(self.settings):
            if not packed:
                return []
            if self._sender is None:
                self._broker.ensure_topics()
                self._sender = Sender(self.settings)
            futures = [self._sender.send(*row) for row in packed]
            return [future.get(self.settings.timeout_seconds).offset + 1 for future in futures]

    def read(self, topic: str, after: Positions, limit: int) -> list[Record]:
        """See `Log.read`."""
        with self._lock, errors(self.settings):
            state = self._broker.topic(topic, exact=False)
            begin = {p: after.get(place(topic, p, state.incarnation), 0) for p in state.ends}
            behind = any(begin[p] < end for p, end in state.ends.items())
            return self._fetch(
                state, begin, limit, self.settings.timeout_seconds if behind else GLANCE_SECONDS
            )

    def end(self, topic: str) -> dict[str, int]:
        """See `Log.end`."""
        with self._lock:
            state = self._broker.topic(topic)
        return {place(topic, p, state.incarnation): end for p, end in state.ends.items()}

    def close(self) -> None:
        """See `Log.close`."""
        with self._lock:
            for reader in self._readers.values():
                reader.consumer.close()
            if self._sender is not None:
                self._sender.close()
            self._readers, self._sender = {}, None
            self._broker.close()

    def _fetch(self, state: Topic, begin: dict[int, int], limit: int, patience: float) -> list[Record]:
        """What lies after `begin`; empty when nothing is there, or only what was aborted or is past retention."""
        full, reader = self.settings.topic_prefix + state.name, self._reader(state)
        for p, start in begin.items():
            if reader.at.get(p) != start:
                reader.consumer.seek(TopicPartition(full, p), start)
                reader.at[p] = start
        give_up = time.monotonic() + patience
        while time.monotonic() < give_up:
            found = reader.consumer.poll(POLL_MS, max_records=limit)
            if records := [self._record(state, r) for part in found.values() for r in part]:
                reader.at |= {record.partition: record.offset for record in records}
                return records
            if patience > GLANCE_SECONDS and all(
                reader.consumer.position(TopicPartition(full, p)) >= end for p, end in state.ends.items()
            ):
                return []
        if patience > GLANCE_SECONDS:
            raise LogError(f"topic {full} gave nothing of what it has for {patience:g} s; check the broker")
        return []

    def _record(self, state: Topic, raw) -> Record:
        event, problem = decode(raw.value, raw.headers)
        kept = b"" if event is not None else raw.value or b""
        return Record(state.name, raw.partition, raw.offset + 1, event, problem, kept, state.incarnation)

    def _reader(self, state: Topic) -> _Reader:
        reader = self._readers.get(state.name)
        if reader is not None and (reader.incarnation, set(reader.at)) == (
            state.incarnation,
            set(state.ends),
        ):
            return reader
        if reader is not None:
            reader.consumer.close()
        reader = _Reader(consumer(self.settings), state.incarnation)
        full = self.settings.topic_prefix + state.name
        reader.consumer.assign([TopicPartition(full, p) for p in state.ends])
        self._readers[state.name] = reader
        return reader

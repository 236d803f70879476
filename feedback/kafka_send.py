"""The producer: idempotent, in order, bounded in time, and every send's own outcome."""

from __future__ import annotations

# The checker brings stubs of kafka-python 2, which know neither these names nor these options.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false, reportOptionalOperand=false
from kafka import KafkaProducer
from kafka.errors import (
    CorruptRecordError,
    InvalidRecordError,
    InvalidTimestampError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
from kafka.producer.future import FutureRecordMetadata

from feedback.kafka_client import options
from feedback.kafka_events import headers
from feedback.log import Event
from heliotrope.settings.log import Kafka

LINGER_MS = 5
MAX_REQUEST = 1 << 20
CLOSE_SECONDS = 10
REFUSALS = (
    CorruptRecordError,
    InvalidRecordError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
"""What the broker says of a record that no repeat will make right."""


class Sender:
    """Sends events; a record that is not acknowledged within kafka.timeout_seconds fails. Raises KafkaError when the
    broker does not answer."""

    def __init__(self, settings: Kafka) -> None:
        self._prefix = settings.topic_prefix
        millis = int(settings.timeout_seconds * 1000)
        self._producer = KafkaProducer(
            **options(settings) | {"request_timeout_ms": max(500, millis // 2)},
            enable_idempotence=True,
            acks="all",
            linger_ms=LINGER_MS,
            delivery_timeout_ms=millis,
            max_block_ms=millis,
            max_request_size=MAX_REQUEST,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

    def send(self, topic: str, key: str, event: Event, value: bytes) -> FutureRecordMetadata:
        """Queue one event; its future has partition and Kafka's offset, or the error."""
        return self._producer.send(
            self._prefix + topic,
            value,
            key.encode(),
            headers=headers(event),
            timestamp_ms=event.time.ToMilliseconds() or None,
        )

    def close(self) -> None:
        """Drop what is not acknowledged; its futures fail."""
        sender = self._producer._sender
        try:
            self._producer.close(timeout=0)
        except (
            KafkaTimeoutError
        ):  # kafka-python 3.0.12 stops at its flush then, and leaves its thread running
            sender.force_close()
            sender.join(CLOSE_SECONDS)
            self._producer.close(timeout=0)
        sender.join(CLOSE_SECONDS)

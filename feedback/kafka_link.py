"""The relay's connection to a Kafka broker."""

from __future__ import annotations

from functools import partial

from kafka.errors import KafkaError
from kafka.producer.future import RecordMetadata

from feedback.kafka_client import Broker, Topic, errors
from feedback.kafka_send import REFUSALS, Sender
from feedback.log import TOPICS
from feedback.outbox import Row
from feedback.relay_session import Done, Failed, Outcome, Refused, Sent
from heliotrope.settings.log import Kafka


class KafkaLink:
    """`Link` on kafka-python; the topics exist once it is made. Raises LogError when the broker does not answer."""

    def __init__(self, settings: Kafka) -> None:
        self._settings = settings
        self._broker = Broker(settings)
        try:
            with errors(settings):
                self._broker.ensure_topics()
                self._sender = Sender(settings)
        except BaseException:
            self._broker.close()
            raise

    def topics(self) -> list[Topic]:
        """See `Link.topics`."""
        return [self._broker.topic(name) for name in TOPICS]

    def send(self, row: Row, done: Done) -> None:
        """See `Link.send`."""
        assert row.event is not None
        try:
            future = self._sender.send(row.topic, row.key, row.event, row.value)
        except (KafkaError, ValueError) as error:
            done(row, outcome_of(error))
            return
        future.add_callback(partial(_succeeded, row, done))
        future.add_errback(partial(_failed, row, done))

    def close(self) -> None:
        """See `Link.close`."""
        with errors(self._settings):
            self._sender.close()
            self._broker.close()


def outcome_of(error: Exception) -> Outcome:
    """Whether the record is at fault, or anything else."""
    reason = f"{type(error).__name__}: {error}"
    return Refused(reason) if isinstance(error, REFUSALS) else Failed(reason)


def _succeeded(row: Row, done: Done, found: RecordMetadata) -> None:
    done(row, Sent(found.partition, found.offset + 1))


def _failed(row: Row, done: Done, error: Exception) -> None:
    done(row, outcome_of(error))

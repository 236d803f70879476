"""One way to reach the broker: settings into client options, topics made explicitly, Kafka's errors into ours."""

from __future__ import annotations

# The checker brings stubs of kafka-python 2, which know neither these names nor these options.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false, reportOptionalOperand=false
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from feedback.log import EXCHANGES, FEEDBACK, POLICY
from heliotrope.errors import ConfigError, LogError
from heliotrope.settings.log import Kafka

QUARANTINE_DAYS = 14
DAY_MS = 86_400_000
FETCH_MS = 100
"""How long a broker keeps a fetch waiting for news."""


@dataclass(frozen=True)
class Topic:
    """A topic as the broker has it. incarnation: its id, another one when it is made anew. ends: offset after the last,
    by partition; Kafka counts from 0, so that this is also our offset of the last."""

    name: str
    incarnation: str
    ends: dict[int, int]


def options(settings: Kafka) -> dict[str, Any]:
    """What every client is given: where, how long, and TLS and SASL as they are. Raises ConfigError."""
    millis = int(settings.timeout_seconds * 1000)
    common: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.bootstrap_servers.split(",")],
        "bootstrap_timeout_ms": min(millis, 5000),
        "request_timeout_ms": millis,
        "reconnect_backoff_max_ms": 1000,
        "security_protocol": settings.security_protocol,
    }
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        if path := getattr(settings, name):
            common[name] = str(path)
    if settings.sasl_mechanism:
        common |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": _password(settings),
        }
    return common


def _password(settings: Kafka) -> str:
    assert settings.sasl_password_file is not None
    try:
        return settings.sasl_password_file.read_text().splitlines()[0]
    except (OSError, IndexError) as error:
        raise ConfigError(
            f"kafka.sasl_password_file {settings.sasl_password_file} has no password ({error}); write it as its first line"
        ) from error


@contextmanager
def errors(settings: Kafka) -> Iterator[None]:
    """Kafka's and the sockets' errors as LogError with the address and the remedy."""
    try:
        yield
    except (KafkaError, OSError, ValueError, RuntimeError) as error:
        raise LogError(
            f"the broker at {settings.bootstrap_servers} fails: {type(error).__name__}: {str(error)[:200]}; "
            "check that it runs and kafka.bootstrap_servers"
        ) from error


def wanted(settings: Kafka) -> list[NewTopic]:
    """Every topic with partitions and retention: deleted by age or never, and never compacted, as repeats are no updates."""
    days = settings.retention_days
    kept = str(int(days * DAY_MS)) if days else "-1"
    made = [
        _topic(settings, EXCHANGES, settings.partitions, kept),
        _topic(settings, FEEDBACK, settings.partitions, kept),
        _topic(settings, POLICY, 1, "-1"),
    ]
    quarantine = str(QUARANTINE_DAYS * DAY_MS)
    return made + [_topic(settings, f"{name}.dlq", 1, quarantine) for name in (EXCHANGES, FEEDBACK, POLICY)]


def _topic(settings: Kafka, name: str, partitions: int, retention: str) -> NewTopic:
    configs = {"cleanup.policy": "delete", "retention.ms": retention}
    return NewTopic(settings.topic_prefix + name, partitions, settings.replication, topic_configs=configs)


class _Admin(KafkaAdminClient):
    """kafka-python 3.0.12 leaves a thread and its sockets behind when the broker does not answer its constructor."""

    def __init__(self, **configs: Any) -> None:
        try:
            super().__init__(**configs)
        except BaseException:
            if hasattr(self, "_net"):
                self._client.close()
                self._net.stop()
                self._net.close()
            raise


class Broker:
    """Asks a broker for its topics. One connection for administration and one for offsets, opened at the first use."""

    def __init__(self, settings: Kafka) -> None:
        self.settings = settings
        self._admin: _Admin | None = None
        self._consumer: KafkaConsumer | None = None

    def ensure_topics(self) -> None:
        """Make the topics that are not there; those that are stay as they are. Raises LogError."""
        with errors(self.settings):
            there = set(self._administrate().list_topics())
            for topic in wanted(self.settings):
                if topic.name not in there:
                    self._create(topic)

    def topic(self, name: str, exact: bool = True) -> Topic:
        """A topic's id and ends. Raises LogError, also when it is not there.

        Tansu answers an end that lies inside the last batch; `exact` looks at the last batch of each partition too.
        """
        with errors(self.settings):
            full = self.settings.topic_prefix + name
            (found,) = self._administrate().describe_topics([full])
            if found["error_code"] or not found["partitions"]:
                raise LogError(f"the broker has no topic {full}; start serving, it makes the topics")
            places = [TopicPartition(full, p["partition_index"]) for p in found["partitions"]]
            ends = self._ends(places)
            if exact:
                ends |= self._high_water({p: end for p, end in ends.items() if end})
            return Topic(name, str(found.get("topic_id") or ""), {p.partition: ends[p] for p in places})

    def close(self) -> None:
        """Let go of the connections; idempotent."""
        for client in (self._admin, self._consumer):
            if client is not None:
                client.close()
        self._admin = self._consumer = None

    def _ends(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        reader = self._offsets()
        try:
            return reader.end_offsets(places)
        except KeyError as partition:  # kafka-python 3.0.12 trips over what the broker left out
            raise LogError(
                f"the broker did not tell where {partition} ends, as it does while it makes a topic; try again"
            ) from partition

    def _high_water(self, ends: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The offset after the last, from the answer to a fetch of the last batch."""
        reader, found = self._offsets(), dict.fromkeys(ends, 0)
        reader.assign(list(ends))
        for one, end in ends.items():
            reader.seek(one, end - 1)
        give_up = time.monotonic() + self.settings.timeout_seconds
        while ends and not all(found.values()) and time.monotonic() < give_up:
            reader.poll(FETCH_MS)
            found = {one: reader.highwater(one) or 0 for one in ends}
        return {one: max(end, found[one]) for one, end in ends.items()}

    def _create(self, topic: NewTopic) -> None:
        try:
            self._administrate().create_topics([topic], wait_for_metadata=True)
        except TopicAlreadyExistsError:
            return  # another program was first

    def _administrate(self) -> _Admin:
        if self._admin is None:
            self._admin = _Admin(**options(self.settings))
        return self._admin

    def _offsets(self) -> KafkaConsumer:
        if self._consumer is None:
            self._consumer = consumer(self.settings)
        return self._consumer


def consumer(settings: Kafka) -> KafkaConsumer:
    """A consumer with positions by hand: no group, nothing committed, from the beginning, nothing of an open transaction."""
    return KafkaConsumer(
        **options(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        fetch_max_wait_ms=FETCH_MS,
    )

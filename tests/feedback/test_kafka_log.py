"""What only the broker's log has: explicit topics, partitions, headers, a topic made anew, records that do not parse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.consumer.fetcher import Fetcher
from pydantic import ValidationError

from feedback.kafka_client import Broker, options, wanted
from feedback.kafka_events import headers
from feedback.kafka_log import KafkaLog
from feedback.log import read_all
from heliotrope.errors import ConfigError, LogError
from heliotrope.settings.log import Kafka
from tests.feedback.broker import settings
from tests.feedback.log_events import vote


@pytest.fixture
def log(kafka_address: str) -> Iterator[KafkaLog]:
    made = KafkaLog(settings(kafka_address))
    yield made
    made.close()


def test_topics_have_documented_partitions_and_are_never_compacted() -> None:
    made = {t.name: t for t in wanted(Kafka(partitions=6, retention_days=2, topic_prefix="p."))}
    assert {name: t.num_partitions for name, t in made.items()} == {
        "p.exchanges": 6, "p.feedback": 6, "p.policy": 1,
        "p.exchanges.dlq": 1, "p.feedback.dlq": 1, "p.policy.dlq": 1,
    }  # fmt: skip
    kept = {name: t.topic_configs["retention.ms"] for name, t in made.items()}
    assert kept["p.feedback"] == "172800000" and kept["p.policy"] == "-1"
    assert {t.topic_configs["cleanup.policy"] for t in made.values()} == {"delete"}


def test_an_events_headers_are_cloudevents_attributes() -> None:
    event = vote("e1")
    event.producer_id, event.sequence = "p1", 7
    event.time.FromSeconds(1_700_000_000)
    assert dict(headers(event)) == {
        "ce_specversion": b"1.0", "ce_id": b"e1", "ce_source": b"urn:uuid:p1", "ce_type": b"heliotrope.v1.FeedbackGiven",
        "ce_time": b"2023-11-14T22:13:20Z", "content-type": b"application/protobuf",
    }  # fmt: skip


def test_keys_spread_over_partitions_and_one_key_stays_in_one(log: KafkaLog) -> None:
    events = [vote(f"e{i}") for i in range(60)]
    for i, event in enumerate(events):
        event.conversation_id = f"talk{i % 20}"
    log.append(events)
    found = list(read_all(log, "feedback"))
    places = {(r.event.conversation_id, r.partition) for r in found if r.event}
    assert len(found) == 60 and len(places) == 20 and len({p for _, p in places}) == 3


def test_a_topic_made_anew_is_another_place_and_is_read_from_its_beginning(log: KafkaLog) -> None:
    log.append([vote("before")])
    position = log.end("feedback")
    admin = KafkaAdminClient(bootstrap_servers=log.settings.bootstrap_servers)
    admin.delete_topics([f"{log.settings.topic_prefix}feedback"])
    admin.close()
    broker = Broker(log.settings)
    broker.ensure_topics()
    broker.close()
    writer = KafkaLog(log.settings)
    writer.append([vote("after")])
    writer.close()
    assert [r.event.event_id for r in log.read("feedback", position, 9) if r.event] == ["after"]


def test_a_partition_whose_end_the_broker_does_not_tell_yet_is_asked_for_again(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([vote("kept")])

    async def nothing(*_: object) -> dict:
        return {}

    with monkeypatch.context() as patched:
        patched.setattr(Fetcher, "_fetch_offsets_by_times_async", nothing)
        with pytest.raises(
            LogError, match=r"did not tell where TopicPartition\(.*feedback.* ends.*try again"
        ):
            log.end("feedback")
    assert sum(log.end("feedback").values()) == 1


def test_a_record_that_is_no_event_is_passed_on_with_its_problem(log: KafkaLog) -> None:
    log.append([vote("a")])
    producer = KafkaProducer(bootstrap_servers=log.settings.bootstrap_servers)
    future = producer.send(f"{log.settings.topic_prefix}feedback", b"\xff\xff", b"c1", [("ce_id", b"bad")])
    future.get(10)
    producer.close()
    first, second = read_all(log, "feedback")
    assert first.event is not None and second.event is None and second.problem.startswith("unparsable: ")
    assert second.value == b"\xff\xff"


def test_a_broker_that_is_away_is_named_with_the_remedy(closed_port: int) -> None:
    log = KafkaLog(settings(f"127.0.0.1:{closed_port}", timeout_seconds=1))
    with pytest.raises(LogError, match=rf"broker at 127\.0\.0\.1:{closed_port} fails: .*bootstrap_servers"):
        log.read("feedback", {}, 1)
    log.close()


def test_tls_and_sasl_reach_every_client(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    given = Kafka(
        bootstrap_servers="a:1, b:2", security_protocol="SASL_SSL", ssl_cafile=tmp_path / "ca.pem",
        sasl_mechanism="SCRAM-SHA-512", sasl_username="me", sasl_password_file=tmp_path / "password",
    )  # fmt: skip
    made = options(given)
    assert made["bootstrap_servers"] == ["a:1", "b:2"] and made["ssl_cafile"] == str(tmp_path / "ca.pem")
    assert (made["security_protocol"], made["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (made["sasl_plain_username"], made["sasl_plain_password"]) == ("me", "secret")
    (tmp_path / "password").unlink()
    with pytest.raises(ConfigError, match="sasl_password_file"):
        options(given)


def test_half_a_sasl_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="set both or none"):
        Kafka(security_protocol="SASL_SSL")
    with pytest.raises(ValidationError, match="sasl_username and sasl_password_file"):
        Kafka(security_protocol="SASL_SSL", sasl_mechanism="PLAIN")


def test_certificates_that_nothing_would_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="PLAINTEXT does not use them; set SSL or SASL_SSL"):
        Kafka(ssl_cafile=tmp_path / "ca.pem")
    assert Kafka(ssl_cafile=tmp_path / "ca.pem", security_protocol="SSL").ssl_cafile


def test_the_producer_is_idempotent_and_readers_keep_their_own_positions(log: KafkaLog) -> None:
    log.append([vote("a")])
    log.read("feedback", {}, 1)
    assert log._sender is not None
    sends, reads = log._sender._producer.config, log._readers["feedback"].consumer.config
    assert (sends["enable_idempotence"], sends["acks"]) == (True, -1)
    assert (reads["group_id"], reads["enable_auto_commit"]) == (None, False)
    assert (reads["auto_offset_reset"], reads["isolation_level"]) == ("earliest", "read_committed")


def test_checksums_are_not_made_in_python() -> None:
    from kafka.record import util

    assert util.crc32c_c is not None, (
        "kafka-python found no crc32c and takes half of the relay's time for its own"
    )

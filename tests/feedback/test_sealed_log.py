"""What is stored holds no content, what is read holds all of it, and without its key nothing comes back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback.log import MAX_BYTES
from feedback.sealed_log import SealedReader, SealedStore
from feedback.sealing import Key, has_content, open_, seal
from feedback.sqlite_log import SqliteLog
from heliotrope.errors import LogError
from heliotrope.v1 import common_pb2, events_pb2
from serving.keys import KeyStore

Event = events_pb2.Event
TEXT = "my-secret-words"


def exchange(event_id: str = "e1", user: str = "u1", text: str = TEXT) -> Event:
    event = Event(event_id=event_id, tenant="t", user=user, conversation_id="c1")
    served = event.response_served
    served.response_id, served.text = "r1", text
    served.messages.add(role=common_pb2.ROLE_USER, content=text)
    served.prompt_token_ids.extend([70001, 70002])
    served.response_token_ids.extend([80001, 80002])
    served.logprobs.extend([-0.12345, -2.5])
    served.started.adapter.policy_version = "policy-v3"
    return event


def correction(event_id: str = "f1", user: str = "u1") -> Event:
    event = Event(event_id=event_id, tenant="t", user=user, conversation_id="c1")
    feedback = event.feedback_given.feedback
    feedback.correction.response_id, feedback.correction.text, feedback.comment = "r1", TEXT, TEXT
    feedback.reasons.append("wrong")
    return event


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeyStore]:
    made = KeyStore(tmp_path / "keys" / "people.db", b"k" * 32)
    yield made
    made.close()


@pytest.fixture
def log(tmp_path: Path, keys: KeyStore) -> Iterator[SealedStore]:
    made = SealedStore(SqliteLog(tmp_path / "events.db"), keys)
    yield made
    made.close()


@pytest.mark.parametrize("event", [exchange(), correction()], ids=["exchange", "correction"])
def test_sealing_moves_the_content_and_opening_brings_it_back(event: Event) -> None:
    key, before = Key.new(), event.SerializeToString(deterministic=True)
    sealed = seal(event, key)
    assert event.SerializeToString(deterministic=True) == before, "the event itself is left alone"
    assert not has_content(sealed) and TEXT.encode() not in sealed.SerializeToString()
    assert sealed.conversation_id == "c1" and sealed.WhichOneof("what") == event.WhichOneof("what")
    assert open_(sealed, key.box) and sealed == event


def test_what_needs_no_key_can_be_read_without_one() -> None:
    sealed = seal(correction(), Key.new())
    assert sealed.feedback_given.feedback.correction.response_id == "r1"
    assert list(sealed.feedback_given.feedback.reasons) == ["wrong"]
    assert seal(exchange(), Key.new()).response_served.started.adapter.policy_version == "policy-v3"


def test_another_key_another_event_or_altered_bytes_open_nothing() -> None:
    key = Key.new()
    for spoil in ("key", "event", "bytes"):
        sealed = seal(exchange(), key)
        if spoil == "event":
            sealed.event_id = "e2"
        if spoil == "bytes":
            sealed.sealed = sealed.sealed[:-1] + bytes([sealed.sealed[-1] ^ 1])
        before = Event.FromString(sealed.SerializeToString())
        assert not open_(sealed, Key.new().box if spoil == "key" else key.box), spoil
        assert sealed == before


def test_the_file_holds_ciphertext_and_readers_see_everything(
    log: SealedStore, keys: KeyStore, tmp_path: Path
) -> None:
    log.append([exchange(), correction()])
    files = b"".join(p.read_bytes() for p in tmp_path.glob("events.db*"))
    assert TEXT.encode() not in files
    reader = SealedReader(SqliteLog(tmp_path / "events.db", read_only=True), keys)
    assert [r.event for topic in ("exchanges", "feedback") for r in reader.read(topic, {}, 9)] == [
        exchange(),
        correction(),
    ]
    assert log.find("e1") == exchange() and log.find("none") is None
    reader.close()


def test_a_destroyed_key_leaves_the_event_sealed_and_others_readable(
    log: SealedStore, keys: KeyStore
) -> None:
    log.append([exchange("e1", "u1"), exchange("e2", "u2")])
    assert keys.destroy("t/u1") and not keys.destroy("t/u1")
    first, second = (record.event for record in log.read("exchanges", {}, 9))
    assert first is not None and first.sealed and not first.response_served.text
    assert second == exchange("e2", "u2")


def test_a_person_who_comes_back_gets_a_new_key(log: SealedStore, keys: KeyStore) -> None:
    log.append([exchange("e1")])
    keys.destroy("t/u1")
    log.append([exchange("e2")])
    assert [bool(r.event and r.event.sealed) for r in log.read("exchanges", {}, 9)] == [True, False]


def test_a_destroyed_key_is_in_no_byte_of_the_key_store(keys: KeyStore, tmp_path: Path) -> None:
    key = keys.current(["t/u1"])["t/u1"]
    path = tmp_path / "keys" / "people.db"
    (wrapped,) = sqlite3.connect(path).execute("SELECT wrapped FROM keys").fetchone()
    assert wrapped in path.read_bytes() and key.secret not in path.read_bytes()
    keys.destroy("t/u1")
    left = b"".join(p.read_bytes() for p in path.parent.iterdir())
    assert not any(part in left for part in (wrapped, key.secret, key.id, b"t/u1"))


def test_keys_outlive_a_restart_and_another_server_key_is_told(keys: KeyStore, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "people.db"
    key = keys.current(["t/u1"])["t/u1"]
    again, wrong = KeyStore(path, b"k" * 32), KeyStore(path, b"x" * 32)
    assert again.current(["t/u1"])["t/u1"] == key and again.find([key.id]) == {key.id: key}
    with pytest.raises(LogError, match="another server key"):
        wrong.find([key.id])
    again.close()
    wrong.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_events_of_nobody_and_old_plain_events_are_read_too(
    log: SealedStore, keys: KeyStore, tmp_path: Path
) -> None:
    log.inner.append([exchange("old")])
    log.append([exchange("e1", user="")])
    assert [r.event for r in log.read("exchanges", {}, 9)] == [exchange("old"), exchange("e1", user="")]


def test_an_event_of_the_largest_size_is_not_refused_for_its_seal(log: SealedStore) -> None:
    event = exchange(text="")
    event.response_served.text = "x" * (MAX_BYTES - event.ByteSize() - 8)
    assert MAX_BYTES - 8 <= event.ByteSize() <= MAX_BYTES
    assert log.append([event]) == [1]

"""Reads every store of a run that has ended, and asks SQLite whether its files are whole."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.faults.checker import Found, Stored
from benchmarks.faults.history import CHAT, RETRACT, VOTE
from feedback.log import EXCHANGES, FEEDBACK, Event, Log, Record, read_all
from feedback.sealed_log import SealedReader
from feedback.sqlite_log import SqliteLog
from heliotrope.config import Config
from heliotrope.identity import server_key
from heliotrope.v1 import common_pb2
from serving.keys import KeyStore

NOT_LEARNED_FROM = (common_pb2.FINISH_REASON_LOST, common_pb2.FINISH_REASON_CANCELLED)


def read_stores(config: Config, *, broker: bool = True) -> Found:
    """All that a run has left. The programs have ended; the broker, if there is one and it is asked for, answers."""
    keys = KeyStore(config.paths.people_keys, server_key(config.paths.key))
    learned = config.paths.training_set.exists()
    try:
        own = SealedReader(SqliteLog(config.paths.log, read_only=True), keys)
        records = list(_records(own))
        own.close()
        there = _at_broker(config, keys) if broker and config.log.kind == "kafka" else None
    finally:
        keys.close()
    return Found(
        log=[s for r in records for s in _stored(r)],
        broker=there,
        facts=list(_facts(config.paths.training_set)) if learned else None,
        taught=_taught(config.paths.training_set) if learned else {},
        unusable=_unusable(records),
        damaged=[line for path in sorted(config.paths.state.rglob("*.db")) for line in damage(path)],
    )


def damage(path: Path) -> list[str]:
    """What SQLite's integrity_check says of a file; empty when it is whole."""
    file = sqlite3.connect(path)
    try:
        found = [row[0] for row in file.execute("PRAGMA integrity_check")]
    except sqlite3.Error as error:
        found = [str(error)]
    finally:
        file.close()
    return [] if found == ["ok"] else [f"{path.name}: {line}" for line in found]


def _at_broker(config: Config, keys: KeyStore) -> list[Stored]:
    from feedback.kafka_log import KafkaLog

    log = SealedReader(KafkaLog(config.kafka), keys)
    try:
        return [s for record in _records(log) for s in _stored(record)]
    finally:
        log.close()


def _records(log: Log) -> Iterator[Record]:
    for topic in (EXCHANGES, FEEDBACK):
        yield from read_all(log, topic)


def _stored(record: Record) -> Iterator[Stored]:
    if record.event is not None and (named := _named(record.event)):
        what, request = named
        key = record.event.conversation_id
        yield Stored(record.event.event_id, what, request, key, record.place, record.offset)


def _named(event: Event) -> tuple[str, str] | None:
    """What the client calls the operation behind an event: clients write their request's id into the comment."""
    match event.WhichOneof("what"):
        case "response_started":
            return CHAT, event.response_started.response_id
        case "feedback_given":
            return VOTE, event.feedback_given.feedback.comment
        case "feedback_retracted":
            return RETRACT, event.feedback_retracted.feedback_event_id
    return None


def _unusable(records: Iterable[Record]) -> frozenset[str]:
    """Responses whose end no usable ResponseServed tells."""
    begun: set[str] = set()
    ended: set[str] = set()
    for event in (r.event for r in records if r.event is not None):
        if event.WhichOneof("what") == "response_started":
            begun.add(event.response_started.response_id)
        elif event.WhichOneof("what") == "response_served":
            served = event.response_served
            if served.response_token_ids and served.finish_reason not in NOT_LEARNED_FROM:
                ended.add(served.response_id)
    return frozenset(begun - ended)


def _facts(path: Path) -> Iterator[Stored]:
    for place, offset, event in _events(path, "kind IN ('given', 'retracted') ORDER BY number"):
        if named := _named(event):
            yield Stored(event.event_id, *named, event.conversation_id, place, offset)


def _taught(path: Path) -> dict[tuple[str, ...], list[str]]:
    """By the sorted responses that they judge, the ids of the examples."""
    found: dict[tuple[str, ...], list[str]] = defaultdict(list)
    votes = {event.event_id: event for _, _, event in _events(path, "kind = 'given'")}
    for (example_id,) in _rows(path, "SELECT id FROM examples ORDER BY id"):
        if (vote := votes.get(example_id)) is not None:
            found[tuple(sorted(t.response_id for t in vote.feedback_given.targets))].append(example_id)
    return dict(found)


def _events(path: Path, where: str) -> Iterator[tuple[str, int, Event]]:
    for place, offset, value in _rows(path, f"SELECT place, offset, value FROM facts WHERE {where}"):
        yield place, offset, Event.FromString(value)


def _rows(path: Path, sql: str) -> list[tuple]:
    file = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        return file.execute(sql).fetchall()
    finally:
        file.close()

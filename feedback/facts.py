"""The events that examples are made of, each once by its id, found by the question that they bear on."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator

from feedback.log import Positions, Record, parse_event
from feedback.votes import judged, person, precedes, question, seconds
from heliotrope.v1.events_pb2 import Event

SERVED, GIVEN, RETRACTED, PERSON, ERASED = "served", "given", "retracted", "person", "erased"
KINDS = {
    "response_served": SERVED,
    "feedback_given": GIVEN,
    "feedback_retracted": RETRACTED,
    "consent_changed": PERSON,
    "erasure_requested": PERSON,
}
"""What is kept, and as what. `erased` is a tombstone: the id without the content."""

UNNEEDED = ("logprobs", "text")
"""Fields of ResponseServed that no example is made of, as are the words of its messages; they stay in the log."""


class Facts:
    """Rows of the table `facts` on a connection inside whose transactions it is called."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.erased = False

    def add(self, event: Event, place: str, offset: int) -> set[str]:
        """Keep an event unless its id is known; the questions that it bears on, none when it was known."""
        kind = KINDS.get(event.WhichOneof("what") or "")
        if kind is None or self.place_of(event.event_id) is not None:
            return set()
        who = _person(event)
        key = question_key(event) if kind == GIVEN else ""
        if event.sealed or (kind in (SERVED, GIVEN, RETRACTED) and self._was_erased(event, who)):
            kind = ERASED
        value = b"" if kind == ERASED else _stored(event, kind)
        self._connection.execute(
            "INSERT INTO facts (event_id, kind, person, subject, question, at, place, offset, value)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (event.event_id, kind, who, _subject(event, kind), key, seconds(event), place, offset, value),
        )  # fmt: skip
        return self._touched(event, kind, who, key)

    def _touched(self, event: Event, kind: str, who: str, key: str) -> set[str]:
        if kind == GIVEN:
            self._connection.executemany(
                "INSERT OR IGNORE INTO targets VALUES (?, ?)", [(name, key) for name in judged(event)]
            )
            return {key}
        if kind == SERVED:
            sql, value = (
                "SELECT question FROM targets WHERE response_id = ?",
                event.response_served.response_id,
            )
        elif kind == RETRACTED:
            sql = "SELECT question FROM facts WHERE event_id = ? AND question != ''"
            value = event.feedback_retracted.feedback_event_id
        elif kind == PERSON:
            if event.WhichOneof("what") == "erasure_requested":
                return self._erase(event, who)
            sql, value = "SELECT DISTINCT question FROM facts WHERE person = ? AND kind = 'given'", who
        else:
            return set()
        return {row[0] for row in self._connection.execute(sql, (value,))}

    def _erase(self, erasure: Event, who: str) -> set[str]:
        """Leave tombstones of what this person gave before; the questions that it was part of."""
        sql = "SELECT event_id, question, subject, value FROM facts WHERE person = ? AND kind IN ('served', 'given', 'retracted')"
        touched: set[str] = set()
        for event_id, key, subject, value in self._connection.execute(sql, (who,)).fetchall():
            if not precedes(Event.FromString(value), erasure):
                continue
            touched |= {key} - {""}
            found = self._connection.execute("SELECT question FROM targets WHERE response_id = ?", (subject,))
            touched |= {row[0] for row in found}
            self._connection.execute(
                "UPDATE facts SET kind = 'erased', subject = '', question = '', value = x'' WHERE event_id = ?",
                (event_id,),
            )
            self.erased = True
        self._unquarantine(who)
        return touched

    def _unquarantine(self, who: str) -> None:
        """All of this person's that could not be used, whatever its clock says: it was read before the erasure was."""
        gone = self._connection.execute("DELETE FROM quarantine WHERE person = ?", (who,)).rowcount
        self.erased = self.erased or gone > 0

    def _was_erased(self, event: Event, who: str) -> bool:
        sql = "SELECT value FROM facts WHERE person = ? AND kind = 'person'"
        found = [Event.FromString(value) for (value,) in self._connection.execute(sql, (who,))]
        return any(e.WhichOneof("what") == "erasure_requested" and precedes(event, e) for e in found)

    def of(self, key: str) -> Iterator[Event]:
        """All events that a question's answer depends on: its votes, what they judge, and what its person took back."""
        votes = self._events(
            "question = ? AND question != ''", key
        )  # or SQLite passes its partial index over
        yield from votes
        if votes:
            yield from self._events("person = ? AND kind = 'person'", _person(votes[0]))
            for subject in (*judged(votes[0]), *(vote.event_id for vote in votes)):
                yield from self._events("subject = ? AND subject != ''", subject)

    def _events(self, where: str, value: str) -> list[Event]:
        sql = f"SELECT value FROM facts WHERE {where} ORDER BY number"
        return [Event.FromString(stored) for (stored,) in self._connection.execute(sql, (value,))]

    def questions(self) -> set[str]:
        """Every question that was ever answered."""
        return {
            row[0]
            for row in self._connection.execute("SELECT DISTINCT question FROM facts WHERE question != ''")
        }

    def votes(self, key: str, but: str = "") -> list[str]:
        """Ids of a question's votes, all but one."""
        sql = "SELECT event_id FROM facts WHERE question = ? AND question != '' AND event_id != ?"
        return [row[0] for row in self._connection.execute(sql, (key, but))]

    def newest(self) -> float:
        """Log time: the latest time of all facts, seconds since 1970; 0 when there are none."""
        return self._connection.execute("SELECT coalesce(max(at), 0) FROM facts").fetchone()[0]

    def pending_before(self, horizon: float) -> list[Record]:
        """Judgements from before a time that still wait for what they judge, and are not in quarantine yet."""
        sql = (
            "SELECT facts.place, facts.offset, facts.value FROM verdicts JOIN facts USING (event_id)"
            " WHERE verdicts.state = 'pending' AND facts.at < ?"
            " AND NOT EXISTS (SELECT 1 FROM quarantine WHERE quarantine.event_id = facts.event_id)"
        )
        return [self.record(*row) for row in self._connection.execute(sql, (horizon,)).fetchall()]

    def newest_served(self, limit: int) -> list[Event]:
        """The newest responses that ended, newest first."""
        sql = "SELECT value FROM facts WHERE kind = 'served' ORDER BY number DESC LIMIT ?"
        return [Event.FromString(value) for (value,) in self._connection.execute(sql, (limit,))]

    def place_of(self, event_id: str) -> tuple[str, int] | None:
        """Place and offset where an event was first read; None when it was not, or is not kept."""
        return self._connection.execute(
            "SELECT place, offset FROM facts WHERE event_id = ?", (event_id,)
        ).fetchone()

    def given_at(self, event_id: str) -> float:
        """An event's time, seconds since 1970; 0 when it was not read, or is not kept."""
        found = self._connection.execute("SELECT at FROM facts WHERE event_id = ?", (event_id,)).fetchone()
        return found[0] if found else 0.0

    def erased_among(self, event_ids: Iterator[str]) -> list[str]:
        """Those of which only the tombstone is left."""
        sql = "SELECT 1 FROM facts WHERE event_id = ? AND kind = 'erased'"
        return [id for id in event_ids if self._connection.execute(sql, (id,)).fetchone()]

    def erased_since(self, positions: Positions) -> list[str]:
        """Tombstones of what was judged at or before these positions by people whose erasure came after them."""
        sql = "SELECT event_id, place, offset, person FROM facts WHERE kind = 'erased' AND place LIKE 'feedback/%'"
        rows = self._connection.execute(sql).fetchall()
        then = [row for row in rows if row[2] <= positions.get(row[1], 0)]
        later = {who for who in {row[3] for row in then} if self._leaves_after(who, positions)}
        return [event_id for event_id, _, _, who in then if who in later]

    def _leaves_after(self, who: str, positions: Positions) -> bool:
        sql = "SELECT value, place, offset FROM facts WHERE person = ? AND kind = 'person'"
        return any(
            Event.FromString(value).HasField("erasure_requested") and offset > positions.get(place, 0)
            for value, place, offset in self._connection.execute(sql, (who,))
        )

    def judgements_of(self, event_id: str) -> list[str]:
        """The votes that an event bears on: itself, or all on the response that it closes."""
        row = self._connection.execute(
            "SELECT kind, subject FROM facts WHERE event_id = ?", (event_id,)
        ).fetchone()
        if row is None or row[0] != SERVED:
            return [event_id]
        sql = "SELECT event_id FROM targets JOIN facts USING (question) WHERE response_id = ? AND facts.question != ''"
        return [found for (found,) in self._connection.execute(sql, (row[1],))]

    def examples_about(self, end: str, but: str) -> list[tuple[str, str, str]]:
        """Id, digest and question of all examples but one that judge the response which an event closes, oldest first."""
        sql = (
            "SELECT id, digest, question FROM examples WHERE id != ? AND question IN (SELECT targets.question FROM targets"
            " JOIN facts ON facts.subject = response_id WHERE facts.event_id = ?) ORDER BY at, id"
        )
        return self._connection.execute(sql, (but, end)).fetchall()

    def ends_of(self, vote: str) -> list[str]:
        """The ends of the responses that a judgement judges, as event ids; none of an erased one."""
        sql = "SELECT value FROM facts WHERE event_id = ? AND kind = 'given'"
        given = [Event.FromString(value) for (value,) in self._connection.execute(sql, (vote,))]
        sql = "SELECT event_id FROM facts WHERE subject = ? AND subject != '' AND kind = 'served'"
        ends = [self._connection.execute(sql, (name,)) for event in given for name in judged(event)]
        return [found for rows in ends for (found,) in rows]

    def record(self, place: str, offset: int, value: bytes) -> Record:
        """A record of the log as it was read."""
        topic, _, partition = place.partition("/")
        number, _, incarnation = partition.partition("@")
        event, problem = parse_event(value)
        kept = b"" if event is not None else value
        return Record(topic, int(number), offset, event, problem, kept, incarnation)

    @staticmethod
    def person_of(record: Record) -> str:
        """Tenant and pseudonym of a record's event, one string."""
        return "" if record.event is None else _person(record.event)


def question_key(event: Event) -> str:
    """What a judgement answers, as 32 hex digits: see `feedback.votes.question`."""
    tenant, user, source, kind, names = question(event)
    text = "\0".join((tenant, user, str(source), kind, *sorted(names)))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _person(event: Event) -> str:
    tenant, user = person(event)
    if event.WhichOneof("what") == "erasure_requested":
        user = event.erasure_requested.user
    return f"{tenant}/{user}"


def _subject(event: Event, kind: str) -> str:
    if kind == SERVED:
        return event.response_served.response_id
    return event.feedback_retracted.feedback_event_id if kind == RETRACTED else ""


def _stored(event: Event, kind: str) -> bytes:
    if kind == SERVED:
        kept = Event()
        kept.CopyFrom(event)
        for name in UNNEEDED:
            kept.response_served.ClearField(name)
        for message in kept.response_served.messages:
            message.ClearField("content")
        event = kept
    return event.SerializeToString(deterministic=True)

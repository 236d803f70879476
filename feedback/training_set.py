"""What may be learned from, kept in one SQLite file: facts, the examples made of them, and how far the log was read.

    take:  records → facts (once an event id) → questions they touch → examples and verdicts → positions; one transaction

A kill between any two statements leaves all of it or none, so that feedback is neither lost nor counted twice. What a
question teaches is decided by `Joiner` from that question's facts alone; the file finds them, so that a vote a day late
costs what any vote costs. Examples depend on the set of events, never on their order: also what came to quarantine for
want of its response is taught once the response comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from feedback import quarantine
from feedback.examples import Example, content_digest, hash_of
from feedback.facts import Facts
from feedback.inspection import Problem, Reason, inspect
from feedback.join import Joiner
from feedback.log import EXCHANGES, FEEDBACK, Log, Positions, Record, read_all
from feedback.quarantine import Bounds, Quarantined
from feedback.tables import DerivedFile
from feedback.turns import Turns
from heliotrope.errors import LogError
from heliotrope.failpoints import reach
from heliotrope.v1.events_pb2 import Event

PAGE = 500
PENDING_DAYS = 30.0
"""How long, in log time, a judgement waits for the end of what it judges."""


@dataclass(frozen=True)
class Retention:
    """pending_days: of log time, as above. quarantine: how long and how much."""

    pending_days: float = PENDING_DAYS
    quarantine: Bounds = field(default_factory=Bounds)


class TrainingSet:
    """Examples in the file at `path`, made with its folder. One process writes it; not for several threads at once.

    joiner: makes an empty Joiner with the rules in force; `rules` names them, and the examples are made anew from the
    facts when they are not those that the file was made by. clock: seconds since 1970. answer_ids: ChatFormat's.
    """

    def __init__(
        self, path: Path, joiner: Callable[[], Joiner], rules: str, clock: Callable[[], float],
        retention: Retention | None = None, answer_ids: Callable[[str], Sequence[int]] = lambda text: (),
    ) -> None:  # fmt: skip
        self._file = DerivedFile(path)
        self._facts = Facts(self._file.connection)
        self._joiner, self._clock, self._retention = joiner, clock, retention or Retention()
        self._cache: dict[str, tuple[str, Example]] = {}
        self.answer_ids = answer_ids
        if self._file.note("rules") != rules:
            with self._file.transaction():
                self._derive(self._facts.questions())
                self._file.set_note("rules", rules)

    @property
    def positions(self) -> dict[str, int]:
        """Offset of the newest record taken from each place."""
        return dict(self._file.connection.execute("SELECT place, offset FROM positions"))

    def follow(self, log: Log, until: Positions | None = None, turns: Turns | None = None) -> int:
        """Take all that is new in the log (up to `until`), then settle; how many records that was.

        turns: of the threads that use this set too; one is taken for each page, and none while the log is read.
        """
        turns = turns or Turns()
        count = sum(self._follow(log, topic, until, turns) for topic in (EXCHANGES, FEEDBACK))
        if count:
            with turns:
                self.settle()
        return count

    def _follow(self, log: Log, topic: str, until: Positions | None, turns: Turns) -> int:
        count = 0
        with turns:
            cursor = self.positions
        while not _passed(cursor, topic, until):
            round_ = turns.round
            page = log.read(topic, cursor, PAGE)
            if not page:
                break
            with turns:
                if turns.round != round_:
                    continue
                count += self.take([r for r in page if until is None or r.offset <= until.get(r.place, 0)])
            cursor |= {record.place: record.offset for record in page}
        return count

    def take(self, records: Sequence[Record]) -> int:
        """Take records in, with their positions, in one transaction; how many. Known ones change nothing."""
        if not records:
            return 0
        now = self._clock()
        with self._file.transaction() as connection:
            touched: set[str] = set()
            for record in records:
                problem = inspect(record, now)
                if problem is None and record.event is not None:
                    touched |= self._facts.add(record.event, record.place, record.offset)
                elif problem is not None:
                    quarantine.put(connection, record, problem, now, self._facts.person_of(record))
            self._derive(touched)
            reach("between rows and position")
            connection.executemany(
                "INSERT INTO positions VALUES (?, ?) ON CONFLICT DO UPDATE SET offset = max(offset, excluded.offset)",
                [(record.place, record.offset) for record in records],
            )
        if self._facts.erased and self._scrubbed():
            self._facts.erased = False
        return len(records)

    def erase(self, erasure: Event) -> None:
        """Take out what a person gave before this ErasureRequested, which the log may not have given yet, and what of it
        still comes. Raises LogError."""
        with self._file.transaction():
            self._derive(self._facts.add(erasure, "", 0))
        self.scrub()

    def scrub(self) -> None:
        """Leave nothing of what was erased in memory, or in the file's write-ahead log. Raises LogError."""
        if not self._scrubbed():
            raise LogError(
                f"the write-ahead log of {self._file.path} is being read and cannot be emptied; tried again later"
            )

    def _scrubbed(self) -> bool:
        self._cache.clear()
        return self._file.truncate()

    def heed_erasures(self, records: Iterable[Record]) -> None:
        """Apply these (`erasures` of a log) wherever they stand, also beyond the positions read: what was erased since is
        not looked at again when an old state is made anew."""
        with self._file.transaction():
            for record in records:
                if record.event is not None:
                    self._derive(self._facts.add(record.event, record.place, record.offset))

    def settle(self) -> None:
        """Once caught up with the log: judgements that waited too long go to quarantine, and what is old leaves it."""
        now = self._clock()
        with self._file.transaction() as connection:
            horizon = self._facts.newest() - self._retention.pending_days * 86_400
            for record in self._facts.pending_before(horizon):
                days = f"{self._retention.pending_days:g} days"
                problem = Problem(
                    Reason.TARGET_UNKNOWN, f"what it judges did not end within {days} of log time"
                )
                quarantine.put(connection, record, problem, now, self._facts.person_of(record))
            quarantine.prune(connection, now, self._retention.quarantine)

    def retry(self, turns: Turns | None = None) -> tuple[int, int]:
        """Look again at all that is in quarantine; how many were taken in, and how many stay. After an upgrade, or
        once clocks agree, what could not be used can be. turns: see `follow`."""
        turns, seen, taken, before = turns or Turns(), 0, 0, 0
        while True:
            with turns:
                held = self.quarantined(PAGE, before)
                taken += sum(map(self._taken_again, held))
            seen += len(held)
            if len(held) < PAGE:
                return taken, seen - taken
            before = held[-1].number

    def _taken_again(self, item: Quarantined) -> bool:
        if not item.whole or item.reason == Reason.TARGET_UNKNOWN:
            return False
        record = self._facts.record(item.place, item.offset, item.value)
        if record.event is None or record.event.sealed or inspect(record, self._clock()) is not None:
            return False  # what came sealed is opened only by reading the log anew: a replay
        with self._file.transaction() as connection:
            self._derive(self._facts.add(record.event, record.place, record.offset))
            quarantine.remove(connection, [item.number])
        return True

    def examples(self, kind: str = "", limit: int = 1_000_000_000) -> list[Example]:
        """The newest examples of a kind ("Preference", "Thumb", …; empty: all), oldest first."""
        rows = self._file.connection.execute(
            "SELECT id, digest, question FROM examples WHERE ? = '' OR kind = ? ORDER BY at DESC, id DESC LIMIT ?",
            (kind, kind, limit),
        ).fetchall()
        return self._load(rows[::-1])

    def about(self, example: Example) -> list[Example]:
        """What the other judgements of the response that an example is about make, oldest first."""
        return self._load(self._facts.examples_about(example.event_ids[1], example.id))

    def _load(self, rows: Sequence[tuple[str, str, str]]) -> list[Example]:
        """The examples of rows of id, digest and question."""
        missing = {q for id, digest, q in rows if self._cache.get(id, ("", None))[0] != digest}
        for question in missing:
            for example in self._joined(question).joined().examples:
                self._cache[example.id] = content_digest(example), example
        return [self._cache[id][1] for id, _, _ in rows]

    def digests(self) -> dict[str, str]:
        """Content digest of every example by its id, without making the examples."""
        return dict(self._file.connection.execute("SELECT id, digest FROM examples"))

    def hash(self) -> str:
        """SHA-256 (hex) over the sorted (id, content digest) of all examples: `feedback.examples.examples_hash`."""
        return hash_of(self.digests().items())

    def states(self) -> dict[str, int]:
        """How many questions stand how: taught, pending, dropped, nothing."""
        return dict(self._file.connection.execute("SELECT state, count(*) FROM verdicts GROUP BY state"))

    def dropped(self) -> dict[str, str]:
        """Why standing judgements teach nothing, by event id."""
        sql = "SELECT event_id, reason FROM verdicts WHERE state = 'dropped'"
        return dict(self._file.connection.execute(sql))

    def known_at(self, example: Example, positions: Positions) -> bool:
        """Whether all events behind an example had been read at these positions."""
        places = [self._facts.place_of(id) for id in example.event_ids]
        return all(found is not None and found[1] <= positions.get(found[0], 0) for found in places)

    def prompts(self, limit: int) -> list[tuple[int, ...]]:
        """Prompts of the newest responses that may be learned from, newest last, each once."""
        joiner, prompts = self._joiner(), []
        for event in self._facts.newest_served(limit):
            joiner.add(event)
            if joiner.usable(event.response_served.response_id):
                prompts.append(tuple(event.response_served.prompt_token_ids))
        return list(dict.fromkeys(prompts))[::-1]

    def quarantined(self, limit: int, before: int = 0, reason: str = "") -> list[Quarantined]:
        """See `quarantine.rows`."""
        return quarantine.rows(self._file.connection, limit, before, reason)

    def quarantine_counts(self) -> dict[str, int]:
        """How many records wait in quarantine, by reason."""
        return quarantine.counts(self._file.connection)

    @property
    def facts(self) -> Facts:
        """The events behind the examples: for tracing them."""
        return self._facts

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()

    def _joined(self, question: str) -> Joiner:
        joiner = self._joiner()
        for event in self._facts.of(question):
            joiner.add(event)
        return joiner

    def _derive(self, questions: Iterable[str]) -> None:
        """Make the examples of these questions anew."""
        connection = self._file.connection
        for question in sorted(questions):
            joined = self._joined(question).joined()
            connection.execute("DELETE FROM examples WHERE question = ?", (question,))
            connection.executemany(
                "INSERT INTO examples (id, question, kind, at, held_out, digest) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (e.id, question, type(e).__name__, e.time, e.held_out, content_digest(e))
                    for e in joined.examples
                ],
            )
            state, event_id, reason = "nothing", "", ""
            if joined.examples:
                state, event_id = "taught", joined.examples[0].event_ids[0]
            elif joined.pending:
                state, event_id = "pending", joined.pending[0]
            elif joined.dropped:
                state, (event_id, reason) = "dropped", next(iter(joined.dropped.items()))
            connection.execute(
                "INSERT OR REPLACE INTO verdicts (question, state, event_id, reason) VALUES (?, ?, ?, ?)",
                (question, state, event_id, reason),
            )
            quarantine.release(
                connection, self._facts.votes(question, but=event_id if joined.pending else "")
            )


def erasures(log: Log) -> list[Record]:
    """Every erasure that the log has been asked for."""
    return [r for r in read_all(log, FEEDBACK) if r.event and r.event.HasField("erasure_requested")]


def _passed(cursor: Positions, topic: str, until: Positions | None) -> bool:
    """Whether a reader at `cursor` has seen all of a topic that lies at or before `until`."""
    if until is None:
        return False
    wanted = {name: offset for name, offset in until.items() if name.partition("/")[0] == topic}
    return all(cursor.get(name, 0) >= offset for name, offset in wanted.items())

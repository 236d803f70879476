"""Compares what clients were told with what the stores hold. Knows nothing of how either came about.

    found = Found(log, broker, derived, …)        # benchmarks/faults/stores.py reads it
    check(history.read(path), found)              # lost, duplicated, reordered, phantom

An operation is all attempts of one request. It is *acknowledged* when one of them was `ok`, *refused* when all were
`fail`; else nobody knows, and it may be there or not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.faults.history import CHAT, RETRACT, VOTE, Attempt


@dataclass(frozen=True)
class Stored:
    """An event as a store holds it. request: what the client called it (a chat: the response's id; a retraction: the
    event that it takes back). key, place, offset: where it lies."""

    event_id: str
    what: str
    request: str
    key: str = ""
    place: str = ""
    offset: int = 0


@dataclass(frozen=True)
class Found:
    """What the stores hold. log: serving's file, in its order. broker: None with the embedded log. facts: events behind
    the training set, without starts of chats; None where nobody learned. taught: event ids by question, which is the sorted responses.
    unusable: responses whose end was not seen; judgements of them teach nothing. damaged: files that SQLite finds so."""

    log: Sequence[Stored]
    facts: Sequence[Stored] | None = None
    taught: Mapping[tuple[str, ...], Sequence[str]] = field(default_factory=dict)
    broker: Sequence[Stored] | None = None
    unusable: frozenset[str] = frozenset()
    damaged: Sequence[str] = ()


@dataclass(frozen=True)
class Operation:
    """One request with all its attempts. begun: line of its first; told_at: line at which it was first acknowledged, 0
    for never; over: line after which nothing of it is under way, 0 where nobody knows."""

    client: str
    what: str
    request: str
    subject: tuple[str, ...]
    key: str
    begun: int
    told_at: int
    refused: bool
    event_ids: tuple[str, ...]

    @property
    def acknowledged(self) -> bool:
        """Whether its client was told that it is durable."""
        return self.told_at > 0


@dataclass
class Report:
    """Every complaint, as a line to read. acknowledged: how many operations."""

    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    phantom: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether there is nothing to complain of."""
        return not (self.lost or self.duplicated or self.reordered or self.phantom or self.damaged)


def check(attempts: Iterable[Attempt], found: Found) -> Report:
    """All complaints about one run."""
    operations = operations_of(attempts)
    done = [o for o in operations if o.acknowledged]
    report = Report(acknowledged=len(done), damaged=list(found.damaged))
    stores = {"serving's log": found.log, "the broker": found.broker, "the training set": found.facts}
    for name, rows in stores.items():
        if rows is None:
            continue
        facts = rows is found.facts
        report.lost += _lost(done, rows, name, derived=facts)
        report.duplicated += _doubled(rows, name, repeats=name == "the broker")
        report.reordered += [] if facts else _reordered(done, rows, name)
    report.phantom += _phantoms(operations, found.log)
    if found.facts is not None:
        _judge_questions(operations, found, report)
    return report


def operations_of(attempts: Iterable[Attempt]) -> list[Operation]:
    """Attempts put together by client and request, in the order of their beginning."""
    together: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        together[attempt.client, attempt.request].append(attempt)
    return sorted(map(_operation, together.values()), key=lambda o: o.begun)


def _operation(tries: list[Attempt]) -> Operation:
    first, told = tries[0], [a for a in tries if a.outcome == "ok"]
    return Operation(
        first.client, first.what, first.request, first.subject, (told or tries)[0].key, first.invoked,
        told[0].ended if told else 0, all(a.outcome == "fail" for a in tries),
        told[0].told if told else (),
    )  # fmt: skip


def _names(operation: Operation) -> list[tuple[str, str]]:
    """What and request of the events that an operation is to have left."""
    if operation.what == CHAT:
        return [(CHAT, response) for response in operation.event_ids]
    return [(operation.what, operation.subject[0] if operation.what == RETRACT else operation.request)]


def _lost(done: list[Operation], rows: Sequence[Stored], where: str, *, derived: bool) -> Iterator[str]:
    there = {(row.what, row.request) for row in rows}
    for operation in done:
        if derived and operation.what == CHAT:
            continue  # what is derived keeps ends, and a kill may cut an end off
        for name in _names(operation):
            if name not in there:
                yield f"{name[0]} {name[1]} of {operation.client} was acknowledged and is not in {where}"


def _doubled(rows: Sequence[Stored], where: str, *, repeats: bool) -> Iterator[str]:
    """repeats: the same event may be stored again there, as another event it may not."""
    ids = {(row.what, row.request, row.event_id) for row in rows}
    counted = Counter((what, request) for what, request, _ in ids)
    if not repeats:
        counted = Counter((row.what, row.request) for row in rows)
    for (what, request), times in counted.items():
        if times > 1:
            yield f"{what} {request} is {times} times in {where}"


def _reordered(done: list[Operation], rows: Sequence[Stored], where: str) -> Iterator[str]:
    """Of two operations on one key, the second begun after the first was acknowledged, the first lies before."""
    first: dict[tuple[str, str], Stored] = {}
    for row in rows:
        first.setdefault((row.what, row.request), row)
    lanes: dict[tuple[str, str], tuple[Operation, int]] = {}
    for operation in done:
        for row in filter(None, map(first.get, _names(operation))):
            before, offset = lanes.get((row.key, row.place), (operation, 0))
            if before.told_at < operation.begun and offset > row.offset:
                yield f"{operation.what} {operation.request} lies before {before.request} in {where}, {row.key}"
            else:
                lanes[row.key, row.place] = (operation, row.offset)


def _phantoms(operations: list[Operation], log: Sequence[Stored]) -> Iterator[str]:
    there = {(row.what, row.request) for row in log}
    for operation in operations:
        if operation.refused and operation.what != CHAT and _names(operation)[0] in there:
            yield f"{operation.what} {operation.request} was refused and is in serving's log"


def _judge_questions(operations: list[Operation], found: Found, report: Report) -> None:
    """What each question teaches is the last judgement that its client had acknowledged, unless it was taken back."""
    asked: dict[tuple[str, ...], list[Operation]] = defaultdict(list)
    for operation in operations:
        if operation.what == VOTE and not operation.refused:
            asked[operation.subject].append(operation)
    taken_back = {o.subject[0]: o for o in operations if o.what == RETRACT and not o.refused}
    for subject, votes in asked.items():
        taught = list(found.taught.get(subject, ()))
        if len(taught) > 1:
            report.duplicated.append(f"the question {subject} teaches {len(taught)} times: {taught}")
        if found.unusable.isdisjoint(subject):
            (report.reordered if taught else report.lost).extend(_wrong(subject, votes, taken_back, taught))


def _wrong(
    subject: tuple[str, ...],
    votes: list[Operation],
    taken_back: Mapping[str, Operation],
    taught: Sequence[str],
) -> Iterator[str]:
    last = max((i for i, vote in enumerate(votes) if vote.acknowledged), default=-1)
    if last < 0 or last < len(votes) - 1:
        return  # one whose outcome nobody knows came after it, and may stand
    (stands,) = votes[last].event_ids
    back = taken_back.get(stands)
    if back is not None and not back.acknowledged:
        return
    wanted = [] if back is not None else [stands]
    if sorted(set(taught)) != wanted:
        yield f"the question {subject} teaches {list(taught)}, the last acknowledged judgement is {wanted}"

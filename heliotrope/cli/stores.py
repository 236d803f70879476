"""Verbs on stores: lineage, replay, quarantine."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from heliotrope.client import Client
from heliotrope.v1 import admin_pb2

LEARNER = (
    "The learner keeps its own training set: with it stopped, `python -m learner replay` makes that one again; for the "
    "same log it prints the same hash."
)
HELD = (
    "{} judgements behind versions are in the store and no longer in the log: the store is left as it was, it alone "
    "knows their lineage"
)


def lineage(name: str, address: str) -> None:
    """`heliotrope lineage`: JSON."""
    with Client(private=address) as client:
        print(json.dumps(client.lineage(name), indent=1))


def replay(address: str) -> int:
    """`heliotrope log replay`: exit status 0 when all hashes agree, else 1."""
    with Client(private=address) as client:
        done = client.replay()
    for check in done.versions:
        said = "agrees" if check.agrees else check.note
        print(f"{check.policy_version}: {check.examples} examples, {said}")
    same = "agrees with" if done.hash_before == done.hash_after else f"differs from {done.hash_before} in"
    print(f"training set: {done.examples} examples, {done.hash_after} {same} the store as it was")
    if done.held_only_here:
        print(HELD.format(done.held_only_here))
    print(LEARNER)
    return 0 if done.agree else 1


def quarantined(limit: int, before: int, reason: str, address: str) -> None:
    """`heliotrope log quarantine list`."""
    request = admin_pb2.ListQuarantineRequest(limit=limit, before=before, reason=reason)
    with Client(private=address) as client:
        found = client.quarantine(request)
    counts = ", ".join(f"{name} {count:,}" for name, count in sorted(found.counts.items())) or "nothing"
    names = [Column(name, no_wrap=True) for name in ("number", "place", "reason")]
    table = Table(*names, "came", "bytes", "event", "why", title=f"In quarantine: {counts}")
    for q in found.records:
        came = datetime.fromtimestamp(q.at, UTC).strftime("%Y-%m-%d %H:%M")
        where = f"{q.place}@{q.position}"
        table.add_row(str(q.number), where, q.reason, came, f"{q.size:,}", Text(q.event_id), Text(q.detail))
    Console().print(table)
    if found.refused:
        refused = Table("event", "why", title="Not sent to the broker")
        for one in found.refused:
            refused.add_row(Text(one.event_id), Text(one.reason))
        Console().print(refused)


def replay_quarantine(address: str) -> None:
    """`heliotrope log quarantine replay`."""
    with Client(private=address) as client:
        done = client.replay_quarantine()
    print(
        f"{done.taken} records could be used now, {done.stay} stay in quarantine; {done.sent_again} are sent to the broker again"
    )
    print("The learner looks again at its own at each start.")

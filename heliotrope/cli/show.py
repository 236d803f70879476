"""Tables of what runs, of versions, and of judgements as they come."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from heliotrope.client import Client
from heliotrope.v1 import admin_pb2, events_pb2, feedback_pb2, policy_pb2

COLOURS = {
    "live": "green",
    "candidate": "yellow",
    "canary": "yellow",
    "failed": "red",
    "rejected": "red",
    "rolled back": "red",
}


def status(address: str) -> None:
    """`heliotrope status`."""
    with Client(private=address) as client:
        now = client.status()
    console = Console()
    console.print(pairs("Heliotrope", _status_rows(now)))
    console.print(_slots(now))


def policies(address: str) -> None:
    """`heliotrope policies list`."""
    with Client(private=address) as client:
        listed = client.policies()
    Console().print(versions(list(listed.policies), f"Policies (epoch {listed.epoch})"))


def policy(version: str, address: str) -> None:
    """`heliotrope policies show`."""
    with Client(private=address) as client:
        shown = client.policy(version)
    console, manifest = Console(), json.loads(shown.manifest_json or "{}")
    console.print(versions([shown.policy], version))
    if gates := manifest.get("verdict"):
        console.print(_gates(gates))
    if metrics := manifest.get("metrics"):
        console.print(pairs("Metrics", {key: f"{value:.4g}" for key, value in metrics.items()}))
    plain = {
        key: manifest[key]
        for key in ("base_digest", "examples_hash", "algorithm", "log_positions")
        if manifest.get(key)
    }
    if plain:
        console.print(pairs("Made from", {key: str(value) for key, value in plain.items()}))


def promote(version: str, force: bool, reason: str, epoch: int, address: str) -> None:
    """`heliotrope policies promote`."""
    request = policy_pb2.PromotePolicyRequest(
        policy_version=version, expected_epoch=epoch, force=force, reason=reason
    )
    with Client(private=address) as client:
        done = client.promote(request)
    print(
        f"{done.live.policy_version} is live (epoch {done.epoch}); {done.in_flight_on_previous} responses finish on the one before"
    )


def roll_back(reason: str, stop_in_flight: bool, epoch: int, address: str) -> None:
    """`heliotrope policies rollback`."""
    request = policy_pb2.RollBackPolicyRequest(
        reason=reason, expected_epoch=epoch, stop_in_flight=stop_in_flight
    )
    with Client(private=address) as client:
        done = client.roll_back(request)
    print(f"{done.live.policy_version} is live again (epoch {done.epoch})")


def tail(after: int | None, stop: bool, address: str) -> None:
    """`heliotrope feedback tail`: one line a judgement, until Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    request = admin_pb2.TailFeedbackRequest(stop_at_end=stop)
    if after is not None:
        request.after = after
    with Client(private=address) as client:
        for row in client.tail(request):
            print(line(row), flush=True)


def versions(listed: list[policy_pb2.Policy], title: str) -> Table:
    """A table of versions, newest first."""
    names = [Column(name, no_wrap=True) for name in ("version", "state", "parent")]
    rest = ("examples", "judge", "resident", "in flight", "made", "why")
    table = Table(*names, *rest, title=title)
    for one in listed:
        state = state_name(one.state)
        base = not one.digest
        table.add_row(
            one.policy_version, Text(state, style=COLOURS.get(state, "")), one.parent or "–", str(one.examples),
            "–" if base else "passed" if one.passed else "not passed", "yes" if one.resident or base else "no",
            str(one.in_flight), _time(one.created_at.ToDatetime(UTC)), Text(one.reason),
        )  # fmt: skip
    return table


def state_name(state: int) -> str:
    """`POLICY_STATE_ROLLED_BACK` as people say it: "rolled back"."""
    return policy_pb2.PolicyState.Name(state).removeprefix("POLICY_STATE_").replace("_", " ").lower()  # type: ignore[arg-type]


def pairs(title: str, rows: Mapping[str, str]) -> Table:
    """Two columns, names and values; the values are shown as they are, never as markup."""
    table = Table(title=title, show_header=False)
    for name, value in rows.items():
        table.add_row(name, Text(value))
    return table


def line(row: admin_pb2.TailFeedbackResponse) -> str:
    """One judgement as one line: position, time, person, what."""
    event = row.event
    who = event.user or "nobody"
    return f"{row.position:>6}  {_time(event.time.ToDatetime(UTC))}  {who}  {_what(event)}"


def _what(event: events_pb2.Event) -> str:
    if event.WhichOneof("what") == "feedback_retracted":
        return f"took back {event.feedback_retracted.feedback_event_id}"
    if event.WhichOneof("what") != "feedback_given":
        return str(event.WhichOneof("what")).replace("_", " ")
    given = event.feedback_given
    versions = " | ".join(target.adapter.policy_version for target in given.targets)
    return f"{_judgement(given.feedback)}  on {versions}"


def _judgement(feedback: feedback_pb2.Feedback) -> str:
    match feedback.WhichOneof("kind"):
        case "thumb":
            said = f"thumb {'up' if feedback.thumb.up else 'down'}"
        case "comparison":
            said = f"comparison {feedback_pb2.Choice.Name(feedback.comparison.choice).removeprefix('CHOICE_').lower()}"
        case "ranking":
            said = f"ranking of {len(feedback.ranking.response_ids)}"
        case "rating":
            said = f"rating {feedback.rating.helpfulness}/5, {feedback.rating.presentation}/3"
        case other:
            said = str(other)
    return f"{said}: {' '.join(feedback.comment.split())}" if feedback.comment else said


def _status_rows(now: admin_pb2.GetStatusResponse) -> dict[str, str]:
    events = ", ".join(f"{topic} {count}" for topic, count in sorted(now.events.items()))
    return {
        "live": now.live,
        "last good": now.last_good or "none",
        "rollout": now.rollout_mode,
        "in flight": str(now.in_flight),
        "in flight at the last swap": str(now.in_flight_at_last_swap),
        "events": events or "none",
        "up": f"{now.uptime_seconds:.0f} s",
        "start": f"engine {now.engine_start_seconds:.1f} s, then ready in {now.ready_seconds:.1f} s",
        "base model": now.base_digest[:12],
        "LoRA operations": now.lora_ops,
        "epoch": str(now.epoch),
    } | (_outbox_rows(now.outbox) if now.HasField("outbox") else {})


def _outbox_rows(outbox: admin_pb2.OutboxStatus) -> dict[str, str]:
    rows = {
        "outbox": f"{outbox.depth} of {outbox.capacity} wait, the oldest for {outbox.oldest_seconds:.0f} s",
        "broker": f"{'connected' if outbox.connected else 'away'}, {outbox.failures} failures, {outbox.resent} sent again",
        "refused by the broker": str(outbox.quarantined),
    }
    return rows | ({"newest failure": outbox.last_error} if outbox.last_error else {})


def _slots(now: admin_pb2.GetStatusResponse) -> Table:
    table = Table("slot", "adapter", "digest", "in flight", title="Engine slots")
    table.add_row("none needed", "policy-v0", now.base_digest[:12], str(now.in_flight_on_base))
    for slot in now.slots:
        table.add_row(slot.use, slot.adapter, slot.digest[:12], str(slot.in_flight))
    for _ in range(now.slot_capacity - len(now.slots)):
        table.add_row("free", "", "", "")
    return table


def _gates(gates: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("gate", "verdict", "figures", title="Judge")
    for name, gate in gates.items():
        figures = ", ".join(f"{key} {_figure(value)}" for key, value in gate.get("figures", {}).items())
        table.add_row(name, str(gate.get("verdict", "?")), Text(figures))
    return table


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _time(moment: datetime) -> str:
    return moment.astimezone().strftime("%m-%d %H:%M:%S") if moment.year > 1970 else "–"

"""An event as a Kafka record and back: protobuf value, CloudEvents 1.0 binary-mode headers."""

from __future__ import annotations

from collections.abc import Sequence

from feedback.log import parse_event
from heliotrope.v1.events_pb2 import Event

Headers = list[tuple[str, bytes]]


def headers(event: Event) -> Headers:
    """CloudEvents attributes (Kafka protocol binding 1.0.2, section 3.2): each `ce_…`, and the value's media type.

    The event's id, its producer as source, "heliotrope.v1.<kind>" as type, and its time. No more: each costs the relay 2 %.
    """
    kind = (event.WhichOneof("what") or "unknown").title().replace("_", "")
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": event.event_id,
        "ce_source": f"urn:uuid:{event.producer_id}",
        "ce_type": f"heliotrope.v1.{kind}",
        "ce_time": event.time.ToJsonString(),
        "content-type": "application/protobuf",
    }
    return [(name, value.encode()) for name, value in attributes.items()]


def decode(value: bytes | None, given: Sequence[tuple[str, bytes]]) -> tuple[Event | None, str]:
    """The event of a record, or None and why there is none."""
    name = dict(given).get("ce_id", b"").decode(errors="replace")[:100] or "without an id"
    if value is None:
        return None, f"no_content: record {name} has no value"
    event, problem = parse_event(value)
    return event, problem and f"{problem}, in record {name}"

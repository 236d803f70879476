"""Who sits in the engine's adapter slots, and how many responses are running on each. Pure state: nothing here waits.

vLLM evicts by itself when its slots are full, and reloads inside a step; a missing folder is then fatal (DESIGN §5.4).
So every resident is pinned, and this table says who may sit down. Six slots: live, last good, canary, shadow, and two
for versions on their way in or out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum

from heliotrope.errors import ResourceExhausted, Unavailable
from heliotrope.registry import PolicyVersion
from serving.engine import Adapter

SLOTS = 6


class Role(StrEnum):
    """Why an adapter is resident. One seat for each, except that any number may be draining."""

    LOADING = "loading"
    LIVE = "live"
    LAST_GOOD = "last_good"
    CANARY = "canary"
    SHADOW = "shadow"
    DRAINING = "draining"


def adapter_of(version: PolicyVersion) -> Adapter:
    """How the engine names a version of the registry."""
    return Adapter(version.name, version.digest, version.path)


def number_of(adapter: Adapter | None) -> int:
    """The N of `policy-vN`; 0 for the base."""
    return int(adapter.version.removeprefix("policy-v")) if adapter else 0


class SlotsFull(ResourceExhausted):
    """No seat now: the swap waits, requests do not notice."""


@dataclass(frozen=True)
class Slot:
    """ready: loaded, checked, and not on its way out, so requests may use it."""

    adapter: Adapter
    role: Role
    ready: bool = False


class SlotTable:
    """At most `capacity` residents; at most one of each role but draining."""

    def __init__(self, capacity: int = SLOTS) -> None:
        self.capacity = capacity
        self._slots: dict[str, Slot] = {}
        self._running: Counter[str | None] = Counter()

    def residents(self) -> list[Slot]:
        """All slots taken, in the order in which they were."""
        return list(self._slots.values())

    def find(self, adapter: Adapter) -> Slot | None:
        """The adapter's slot, ready or not."""
        if slot := self._slots.get(adapter.name):
            return slot
        wanted = adapter.version, adapter.digest
        return next(
            (s for s in self._slots.values() if (s.adapter.version, s.adapter.digest) == wanted), None
        )

    def holder(self, role: Role) -> Slot | None:
        """Who sits in a single seat."""
        return next((slot for slot in self._slots.values() if slot.role is role), None)

    def has_room(self, role: Role) -> bool:
        """Whether `seat` would succeed now."""
        return len(self._slots) < self.capacity and (role is Role.DRAINING or self.holder(role) is None)

    def seat(self, adapter: Adapter, role: Role) -> None:
        """Take a slot for an adapter that is about to be loaded; not ready yet. Raises SlotsFull."""
        assert adapter.name not in self._slots, f"{adapter.name} is seated already"
        if not self.has_room(role):
            taken = ", ".join(f"{s.adapter.version} ({s.role})" for s in self._slots.values())
            raise SlotsFull(
                f"no {role} slot for {adapter.version}: {taken} are seated; wait until one has drained"
            )
        self._slots[adapter.name] = Slot(adapter, role)

    def set_ready(self, adapter: Adapter, ready: bool) -> None:
        """Requests may, or may no longer, use it."""
        self._slots[adapter.name] = replace(self._slots[adapter.name], ready=ready)

    def move(self, adapter: Adapter, role: Role) -> None:
        """Give a resident another role; the seat must be free. Always possible for draining."""
        holder = self.holder(role)
        assert role is Role.DRAINING or holder is None or holder.adapter == adapter, (
            f"the {role} seat is taken"
        )
        self._slots[adapter.name] = replace(self._slots[adapter.name], role=role)

    def adopt(self, resident: Adapter, heir: Adapter) -> None:
        """A resident becomes another version of the same weights; the engine goes on calling it as it did."""
        assert (resident.name, resident.digest) == (heir.name, heir.digest), f"{heir} is not what is loaded"
        self._slots[resident.name] = replace(self._slots[resident.name], adapter=heir)

    def leave(self, adapter: Adapter) -> None:
        """The slot is free again. No response may be running on it."""
        assert self._running[adapter.name] == 0, (
            f"{self._running[adapter.name]} responses run on {adapter.name}"
        )
        self._slots.pop(adapter.name, None)

    def acquire(self, adapter: Adapter | None) -> None:
        """One more response runs on it (None: the base model). Raises Unavailable when it is not resident."""
        if adapter is not None:
            slot = self.find(adapter)
            if slot is None or not slot.ready:
                raise Unavailable(
                    f"{adapter.version} is not in a slot of the engine; ask for a resident version"
                )
        self._running[adapter and adapter.name] += 1

    def release(self, adapter: Adapter | None) -> None:
        """One of its responses has ended."""
        name = adapter and adapter.name
        assert self._running[name] > 0, f"nothing runs on {name}"
        self._running[name] -= 1

    def in_flight(self, adapter: Adapter | None) -> int:
        """Responses that run on it now."""
        return self._running[adapter and adapter.name]

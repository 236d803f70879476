"""What the learner has made so far, as the private API tells it: versions, their figures, and whether more is to come."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from heliotrope.client import AsyncClient
from heliotrope.simulate.ledger import Ledger
from heliotrope.simulate.report import BASE
from heliotrope.v1 import admin_pb2, policy_pb2

WAITING = (policy_pb2.POLICY_STATE_CANDIDATE, policy_pb2.POLICY_STATE_CANARY)


@dataclass
class Follower:
    """Polls serving. min_new: preferences that start an update. manifests: by version, read once each.

    restless: the learner's judge has been seen at work on a version that is not published yet.
    """

    client: AsyncClient
    ledger: Ledger
    min_new: int
    policies: list[policy_pb2.Policy] = field(default_factory=list)
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    status: admin_pb2.GetStatusResponse = field(default_factory=admin_pb2.GetStatusResponse)
    restless: bool = False
    moved_at: float = field(default_factory=time.monotonic)

    @property
    def newest(self) -> str:
        """The newest version there is."""
        return self.policies[0].policy_version if self.policies else BASE

    def metric(self, name: str, gate: str = "") -> float | None:
        """A figure of the newest version's manifest: of one gate of its judge, or of its metrics; None when absent."""
        manifest = self.manifests.get(self.newest, {})
        figures = (
            manifest.get("verdict", {}).get(gate, {}).get("figures", {})
            if gate
            else manifest.get("metrics", {})
        )
        found = figures.get(name)
        return float(found) if isinstance(found, int | float) else None

    async def look(self) -> None:
        """Ask once; calls that fail are counted in the ledger and asked again at the next look."""
        listed = await self.ledger.call(self.client.policies(), counted=False)
        status = await self.ledger.call(self.client.status(), counted=False)
        if listed is None or status is None:
            return
        before = self.newest
        self.policies, self.status = list(listed.policies), status
        if self.newest != before:
            self.moved_at, self.restless = time.monotonic(), False
        if not self.restless and any(slot.use == "shadow" and slot.in_flight for slot in status.slots):
            self.moved_at, self.restless = time.monotonic(), True
        for policy in self.policies:
            await self._read(policy.policy_version)

    async def watch(self, on_look: Callable[[], None], every: float = 0.5) -> None:
        """Look again and again until cancelled."""
        while True:
            await self.look()
            on_look()
            await asyncio.sleep(every)

    @property
    def swap_is_near(self) -> bool:
        """Whether a version is being judged, or waits to be put into service."""
        return self.restless or any(policy.state in WAITING for policy in self.policies)

    def unlearned(self) -> float:
        """About how many preferences the newest version has not seen."""
        known = self.manifests.get(self.newest, {}).get("metrics", {}).get("preferences", 0)
        return max(0.0, sum(self.ledger.choices[choice] for choice in ("a", "b", "tie")) - known)

    def settled(self, patience: float) -> bool:
        """Whether no version is on its way: too little is new, or nothing has moved for `patience` seconds."""
        if time.monotonic() - self.moved_at > patience:
            return True
        return not self.swap_is_near and self.unlearned() < self.min_new

    async def _read(self, version: str) -> None:
        if version == BASE or version in self.manifests:
            return
        shown = await self.ledger.call(self.client.policy(version), counted=False)
        if shown is not None:
            self.manifests[version] = json.loads(shown.manifest_json or "{}")

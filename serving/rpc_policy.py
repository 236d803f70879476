"""PolicyService (private): translates calls to the policy desk and its table to messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime

import grpc

from heliotrope.errors import InvalidInput, NotFound, RegistryError
from heliotrope.policies import BASE, Standing, number
from heliotrope.registry import PolicyVersion
from heliotrope.v1 import policy_pb2, policy_pb2_grpc
from serving.policy_desk import PolicyDesk
from serving.slots import Slot

MAX_REASON = 1_024


@dataclass
class PolicyService(policy_pb2_grpc.PolicyServiceServicer):
    """Versions and their states."""

    desk: PolicyDesk
    _versions: dict[str, PolicyVersion] = field(default_factory=dict)

    async def ListPolicies(
        self, request: policy_pb2.ListPoliciesRequest, context: grpc.aio.ServicerContext
    ) -> policy_pb2.ListPoliciesResponse:
        """All versions, newest first."""
        standings = sorted(self.desk.table.standings.values(), key=lambda s: number(s.version), reverse=True)
        policies = [await self._policy(standing) for standing in standings]
        return policy_pb2.ListPoliciesResponse(policies=policies, epoch=self.desk.table.epoch)

    async def GetPolicy(
        self, request: policy_pb2.GetPolicyRequest, context: grpc.aio.ServicerContext
    ) -> policy_pb2.GetPolicyResponse:
        """One version with its manifest; the base has none."""
        number(request.policy_version)
        policy = await self._policy(self.desk.table.standing(request.policy_version))
        version = self._versions.get(request.policy_version)
        manifest = version.manifest.model_dump_json(indent=1) if version else ""
        return policy_pb2.GetPolicyResponse(policy=policy, manifest_json=manifest)

    async def PromotePolicy(
        self, request: policy_pb2.PromotePolicyRequest, context: grpc.aio.ServicerContext
    ) -> policy_pb2.PromotePolicyResponse:
        """Make a version live."""
        number(request.policy_version)
        _check_reason(request.reason)
        await self.desk.promote(
            request.policy_version,
            expected_epoch=request.expected_epoch,
            force=request.force,
            reason=request.reason,
        )
        return policy_pb2.PromotePolicyResponse(
            live=await self._policy(self.desk.table.live), epoch=self.desk.table.epoch,
            in_flight_on_previous=self.desk.in_flight_at_last_swap,
        )  # fmt: skip

    async def RollBackPolicy(
        self, request: policy_pb2.RollBackPolicyRequest, context: grpc.aio.ServicerContext
    ) -> policy_pb2.RollBackPolicyResponse:
        """Put the last good version back."""
        _check_reason(request.reason)
        await self.desk.roll_back(
            expected_epoch=request.expected_epoch,
            reason=request.reason,
            stop_in_flight=request.stop_in_flight,
        )
        return policy_pb2.RollBackPolicyResponse(
            live=await self._policy(self.desk.table.live), epoch=self.desk.table.epoch
        )

    async def WatchPolicies(
        self, request: policy_pb2.WatchPoliciesRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[policy_pb2.WatchPoliciesResponse]:
        """The present states, oldest version first, then every version whose state changes."""
        seen: dict[str, Standing] = {}
        while True:
            changed = self.desk.pulse.next()
            table = self.desk.table
            for standing in sorted(table.standings.values(), key=lambda s: number(s.version)):
                if seen.get(standing.version) != standing:
                    seen[standing.version] = standing
                    yield policy_pb2.WatchPoliciesResponse(
                        policy=await self._policy(standing), epoch=table.epoch
                    )
            await changed.wait()

    async def _policy(self, standing: Standing) -> policy_pb2.Policy:
        slot = self._slot(standing.version)
        policy = policy_pb2.Policy(
            policy_version=standing.version, digest=standing.digest, state=standing.state, reason=standing.reason,
            resident=standing.version == BASE or bool(slot and slot.ready), in_flight=self.desk.in_flight(standing.version),
        )  # fmt: skip
        if version := await self._read(standing.version):
            policy.parent, policy.passed = version.manifest.parent, version.manifest.passed
            policy.examples = len(version.manifest.example_ids)
            policy.created_at.FromDatetime(datetime.fromisoformat(version.manifest.created_at))
        return policy

    def _slot(self, version: str) -> Slot | None:
        return next((s for s in self.desk.swapper.table.residents() if s.adapter.version == version), None)

    async def _read(self, version: str) -> PolicyVersion | None:
        """The version's folder, verified once; None for the base and for one that cannot be read."""
        if version != BASE and version not in self._versions:
            try:
                self._versions[version] = await asyncio.to_thread(self.desk.registry.read, number(version))
            except (RegistryError, NotFound):
                return None
        return self._versions.get(version)


def _check_reason(reason: str) -> None:
    if (size := len(reason.encode())) > MAX_REASON:
        raise InvalidInput(f"the reason has {size} bytes; at most {MAX_REASON} are taken, so shorten it")

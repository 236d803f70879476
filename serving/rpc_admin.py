"""AdminService (private): how things stand, feedback as it is committed, verbs on stores, erasure."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import grpc

from feedback.cases import source_name
from feedback.inspection import Reason
from feedback.relay import Relay
from heliotrope.errors import InvalidInput
from heliotrope.identity import check_user_id
from heliotrope.policies import BASE
from heliotrope.v1 import admin_pb2, admin_pb2_grpc
from serving.caller import Caller
from serving.engine import Engine
from serving.exports import Exports
from serving.journal import Journal
from serving.policy_desk import PolicyDesk
from serving.privacy import Privacy
from serving.read_models import ReadModels
from serving.reply import Replies

TOPICS = ("exchanges", "feedback", "policy")
MOST_ROWS = 1_000


@dataclass
class AdminService(admin_pb2_grpc.AdminServiceServicer):
    """Looks after a running system."""

    desk: PolicyDesk
    replies: Replies
    journal: Journal
    engine: Engine
    exports: Exports
    read_models: ReadModels
    privacy: Privacy
    caller: Callable[[grpc.aio.ServicerContext], Caller]
    relay: Relay | None = None
    ready_at: float = field(default_factory=time.monotonic)
    engine_start_seconds: float = 0.0
    ready_seconds: float = 0.0

    async def GetStatus(
        self, request: admin_pb2.GetStatusRequest, context: grpc.aio.ServicerContext
    ) -> admin_pb2.GetStatusResponse:
        """What is live, resident and in flight."""
        table, swapper = self.desk.table, self.desk.swapper
        good = table.last_good
        status = admin_pb2.GetStatusResponse(
            live=table.live.version, last_good=good.version if good and table.live.version != BASE else "",
            in_flight=len(self.replies.running), uptime_seconds=time.monotonic() - self.ready_at,
            base_digest=self.desk.base_digest, rollout_mode=self.desk.mode, epoch=table.epoch,
            in_flight_at_last_swap=self.desk.in_flight_at_last_swap, lora_ops=getattr(self.engine, "lora_ops", ""),
            engine_available=self.desk.available.now, engine_restarts=self.desk.available.restarts,
            events={topic: self.journal.store.count(topic) for topic in TOPICS},
            slot_capacity=swapper.table.capacity, in_flight_on_base=swapper.table.in_flight(None),
            engine_start_seconds=self.engine_start_seconds, ready_seconds=self.ready_seconds,
        )  # fmt: skip
        for slot in swapper.table.residents():
            running = swapper.table.in_flight(slot.adapter)
            status.slots.add(
                use=slot.role, adapter=slot.adapter.version, digest=slot.adapter.digest, in_flight=running
            )
        if self.relay is not None:
            status.outbox.CopyFrom(await asyncio.to_thread(_outbox, self.relay))
        return status

    async def TailFeedback(
        self, request: admin_pb2.TailFeedbackRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[admin_pb2.TailFeedbackResponse]:
        """Judgements from a position on, then as they are committed."""
        position = request.after if request.HasField("after") else self.journal.end("feedback")
        while True:
            changed = self.journal.pulse.next()
            for newer, event in self.journal.events("feedback", position):
                position = newer
                yield admin_pb2.TailFeedbackResponse(position=position, event=event)
            if request.stop_at_end:
                return
            await changed.wait()

    async def Export(
        self, request: admin_pb2.ExportRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[admin_pb2.ExportResponse]:
        """What may be learned from, as JSON lines."""
        sources = {source_name(source) for source in request.sources} or {"human"}
        async for part in self.exports.parts(request.format, sources):
            yield part

    async def Replay(
        self, request: admin_pb2.ReplayRequest, context: grpc.aio.ServicerContext
    ) -> admin_pb2.ReplayResponse:
        """Make serving's derived store again, and compare it and every version with the log."""
        done = await asyncio.to_thread(self.read_models.replay)
        checks = [
            admin_pb2.VersionCheck(
                policy_version=c.version, agrees=c.agrees, examples=c.examples, erased=c.erased, missing=c.missing, note=c.note
            )
            for c in done.versions
        ]  # fmt: skip
        return admin_pb2.ReplayResponse(
            agree=done.agrees, hash_before=done.before, hash_after=done.after, examples=done.examples, versions=checks,
            held_only_here=done.held,
        )  # fmt: skip

    async def ListQuarantine(
        self, request: admin_pb2.ListQuarantineRequest, context: grpc.aio.ServicerContext
    ) -> admin_pb2.ListQuarantineResponse:
        """What could not be used, newest first."""
        if not 1 <= request.limit <= MOST_ROWS:
            raise InvalidInput(f"limit is {request.limit}; ask for 1 to {MOST_ROWS}")
        if request.reason and request.reason not in [r.value for r in Reason]:
            raise InvalidInput(f"no reason {request.reason[:40]!r}; there are {', '.join(Reason)}")
        listed = self.read_models.quarantined
        found, counts = await asyncio.to_thread(listed, request.limit, request.before, request.reason)
        records = [
            admin_pb2.QuarantinedRecord(
                number=q.number, place=q.place, position=q.offset, reason=q.reason, detail=q.detail,
                event_id=q.event_id, at=q.at, size=q.size,
            )
            for q in found
        ]  # fmt: skip
        refused = await asyncio.to_thread(self.relay.outbox.quarantined, request.limit) if self.relay else []
        rows = [admin_pb2.RefusedEvent(event_id=event_id, reason=why) for event_id, why in refused]
        return admin_pb2.ListQuarantineResponse(records=records, counts=counts, refused=rows)

    async def ReplayQuarantine(
        self, request: admin_pb2.ReplayQuarantineRequest, context: grpc.aio.ServicerContext
    ) -> admin_pb2.ReplayQuarantineResponse:
        """Look again at all that could not be used."""
        again = await asyncio.to_thread(self.relay.outbox.try_again) if self.relay else 0
        taken, stay = await asyncio.to_thread(self.read_models.retry_quarantine)
        return admin_pb2.ReplayQuarantineResponse(taken=taken, stay=stay, sent_again=again)

    async def GetLineage(
        self, request: admin_pb2.GetLineageRequest, context: grpc.aio.ServicerContext
    ) -> admin_pb2.GetLineageResponse:
        """From a version to its events, or from an event to its versions."""
        found = await asyncio.to_thread(self.read_models.lineage, request.name)
        return admin_pb2.GetLineageResponse(lineage_json=json.dumps(found))

    async def Forget(
        self, request: admin_pb2.ForgetRequest, context: grpc.aio.ServicerContext
    ) -> admin_pb2.ForgetResponse:
        """Erase what a person gave."""
        tenant = self.caller(context).tenant
        try:
            person = Caller(tenant, check_user_id(request.user))
        except InvalidInput:
            raise InvalidInput(
                f"{request.user[:40]!r} is no pseudonym, which is 32 hex digits; copy it from `heliotrope feedback tail`"
            ) from None
        return admin_pb2.ForgetResponse(erasure_id=await self.privacy.forget(person, request.request_id))


def _outbox(relay: Relay) -> admin_pb2.OutboxStatus:
    outbox, health = relay.outbox, relay.health
    return admin_pb2.OutboxStatus(
        depth=outbox.depth, oldest_seconds=outbox.age(), capacity=outbox.settings.max_events, connected=health.connected,
        failures=health.failures, resent=health.resent, quarantined=outbox.refused(), last_error=health.last_error,
    )  # fmt: skip

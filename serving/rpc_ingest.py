"""IngestService (private): translates calls to `Ingest` and back; the caller's role decides the source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from heliotrope.errors import PermissionDenied
from heliotrope.identity import ROLE_KEY
from heliotrope.v1 import common_pb2, ingest_pb2, ingest_pb2_grpc
from serving.caller import Caller
from serving.ingest import Ingest

SOURCES = {
    "import": common_pb2.SOURCE_IMPORTED,
    "ai-judge": common_pb2.SOURCE_AI,
    "auto": common_pb2.SOURCE_AUTO,
}


@dataclass
class IngestService(ingest_pb2_grpc.IngestServiceServicer):
    """Judgements that do not come from a chat. caller: who makes a call, from its context."""

    ingest: Ingest
    caller: Callable[[grpc.aio.ServicerContext], Caller]

    async def IngestFeedback(
        self, request: ingest_pb2.IngestFeedbackRequest, context: grpc.aio.ServicerContext
    ) -> ingest_pb2.IngestFeedbackResponse:
        """Record a batch durably."""
        role = str(dict(context.invocation_metadata() or ()).get(ROLE_KEY, ""))
        if role not in SOURCES:
            raise PermissionDenied(
                f"role {role[:40]!r} ingests nothing; send metadata {ROLE_KEY}: {', '.join(SOURCES)}"
            )
        done = await self.ingest.take(request.items, self.caller(context), SOURCES[role])
        return ingest_pb2.IngestFeedbackResponse(
            recorded=done.recorded,
            repeated_items=done.repeated,
            rejected=[ingest_pb2.RejectedItem(index=i, reason=reason) for i, reason in done.rejected],
        )

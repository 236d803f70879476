"""IngestService (private): in the contract, not built yet."""

from __future__ import annotations

import grpc

from heliotrope.errors import Unimplemented
from heliotrope.v1 import ingest_pb2, ingest_pb2_grpc


class IngestService(ingest_pb2_grpc.IngestServiceServicer):
    """Judgements that do not come from a chat."""

    async def IngestFeedback(
        self, request: ingest_pb2.IngestFeedbackRequest, context: grpc.aio.ServicerContext
    ) -> ingest_pb2.IngestFeedbackResponse:
        """Not built yet."""
        raise Unimplemented(
            "IngestFeedback is not built yet; until it is, feedback comes through FeedbackService only"
        )

"""PrivacyService (private): keys for programs that may read, and what became of erasures."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from heliotrope.errors import InvalidInput
from heliotrope.v1 import privacy_pb2, privacy_pb2_grpc
from serving.privacy import Privacy

MAX_IDS = 4096


@dataclass
class PrivacyService(privacy_pb2_grpc.PrivacyServiceServicer):
    """Hands out keys, and follows erasures."""

    privacy: Privacy

    async def GetKeys(
        self, request: privacy_pb2.GetKeysRequest, context: grpc.aio.ServicerContext
    ) -> privacy_pb2.GetKeysResponse:
        """Those that there still are."""
        if not 0 < len(request.ids) <= MAX_IDS:
            raise InvalidInput(f"there are {len(request.ids)} key ids; ask for 1 to {MAX_IDS}")
        found = self.privacy.keys.find(list(request.ids))
        return privacy_pb2.GetKeysResponse(
            keys=[privacy_pb2.PersonKey(id=key.id, secret=key.secret) for key in found.values()]
        )

    async def ConfirmErasure(
        self, request: privacy_pb2.ConfirmErasureRequest, context: grpc.aio.ServicerContext
    ) -> privacy_pb2.ConfirmErasureResponse:
        """A program has deleted what it held."""
        await self.privacy.confirm(request.erasure_id, request.program)
        return privacy_pb2.ConfirmErasureResponse()

    async def ListErasures(
        self, request: privacy_pb2.ListErasuresRequest, context: grpc.aio.ServicerContext
    ) -> privacy_pb2.ListErasuresResponse:
        """Those that a program has not confirmed yet."""
        left = [id for id, one in self.privacy.erasures.items() if request.program not in one.done]
        return privacy_pb2.ListErasuresResponse(erasure_ids=left)

    async def GetErasure(
        self, request: privacy_pb2.GetErasureRequest, context: grpc.aio.ServicerContext
    ) -> privacy_pb2.GetErasureResponse:
        """How far it is, and which versions had learned from the person."""
        learned = await self.privacy.learned(request.erasure_id)
        return privacy_pb2.GetErasureResponse(
            done=sorted(self.privacy.erasure(request.erasure_id).done),
            policy_versions=learned.policies,
            reward_models=learned.reward_models,
        )

"""PrivacyService (private): keys for programs that may read, and what became of erasures."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from heliotrope.errors import InvalidInput
from heliotrope.v1 import privacy_pb2, privacy_pb2_grpc
from serving.keys import KeyStore

MAX_IDS = 4096


@dataclass
class PrivacyService(privacy_pb2_grpc.PrivacyServiceServicer):
    """Hands out keys."""

    keys: KeyStore

    async def GetKeys(
        self, request: privacy_pb2.GetKeysRequest, context: grpc.aio.ServicerContext
    ) -> privacy_pb2.GetKeysResponse:
        """Those that there still are."""
        if not 0 < len(request.ids) <= MAX_IDS:
            raise InvalidInput(f"there are {len(request.ids)} key ids; ask for 1 to {MAX_IDS}")
        found = self.keys.find(list(request.ids))
        return privacy_pb2.GetKeysResponse(
            keys=[privacy_pb2.PersonKey(id=key.id, secret=key.secret) for key in found.values()]
        )

"""People's keys, asked of serving when the log is read, and kept in memory only."""

from __future__ import annotations

from collections.abc import Collection

import grpc

from feedback.sealing import Key
from heliotrope.errors import Unavailable
from heliotrope.v1 import privacy_pb2, privacy_pb2_grpc

TIMEOUT_SECONDS = 5.0
AT_ONCE = 4096


class ServingSecrets:
    """`Secrets` over PrivacyService on serving's private listener."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(address)
        self._stub = privacy_pb2_grpc.PrivacyServiceStub(self._channel)
        self._known: dict[bytes, Key] = {}

    def find(self, ids: Collection[bytes]) -> dict[bytes, Key]:
        """See `Secrets.find`. Raises Unavailable while serving is away."""
        unknown = [id for id in ids if id not in self._known]
        for start in range(0, len(unknown), AT_ONCE):
            request = privacy_pb2.GetKeysRequest(ids=unknown[start : start + AT_ONCE])
            answer = self._call(self._stub.GetKeys, request)
            self._known |= {key.id: Key(key.id, key.secret) for key in answer.keys}
        return {id: self._known[id] for id in ids if id in self._known}

    def forget(self) -> None:
        """Drop every key: those that there still are can be asked for again."""
        self._known.clear()

    def pending(self) -> list[str]:
        """Erasures that the learner has not confirmed yet. Raises Unavailable."""
        request = privacy_pb2.ListErasuresRequest(program="learner")
        return list(self._call(self._stub.ListErasures, request).erasure_ids)

    def confirm(self, erasure_id: str) -> None:
        """Tell serving that the learner holds nothing of an erased person any more. Raises Unavailable."""
        request = privacy_pb2.ConfirmErasureRequest(erasure_id=erasure_id, program="learner")
        self._call(self._stub.ConfirmErasure, request)

    def close(self) -> None:
        """End the connection and forget the keys."""
        self._known.clear()
        self._channel.close()

    def _call(self, method, request):
        try:
            return method(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            status = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
            raise Unavailable(
                f"serving's private listener {self._address} gives no keys ({status}); the log is read once it does"
            ) from error

"""One gRPC stream as newline-delimited JSON, and gRPC errors as HTTP errors."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from heliotrope.v1 import chat_pb2
from serving.gateway_guard import refusal
from serving.interceptor import RETRY_AFTER

# The mapping of google.rpc.Code (googleapis, google/rpc/code.proto); 499 is nginx's "client closed request".
HTTP_STATUS: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}

ChatCall = grpc.aio.UnaryStreamCall[chat_pb2.ChatRequest, chat_pb2.ChatResponse]


def error_response(error: grpc.aio.AioRpcError) -> JSONResponse:
    """The HTTP answer for a failed call: same message, matching status (500 when there is none), same hint when to try again."""
    response = refusal(HTTP_STATUS.get(error.code(), 500), error.code().name, error.details() or "")
    if hint := dict(error.trailing_metadata() or ()).get(RETRY_AFTER):
        response.headers["retry-after"] = str(math.ceil(int(hint) / 1000))
    return response


def as_fields(message: Message) -> dict[str, object]:
    """Protobuf's JSON mapping with the names of the proto files; 64-bit integers are strings there."""
    return MessageToDict(message, preserving_proto_field_name=True)


class ChatStream(Response):
    """Sends a call's chunks as they come, one JSON object a line, and cancels the call when the client goes.

    A failure before the first chunk is an HTTP error; a later one is a last line `{"error": …}`, because the
    status has been sent by then.
    """

    def __init__(self, call: ChatCall, set_cookie: str | None) -> None:
        super().__init__(media_type="application/x-ndjson")
        del self.headers["content-length"]
        self._call = call
        self._set_cookie = set_cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay until the stream ends or the client leaves, whichever comes first."""
        relay = asyncio.create_task(self._relay(scope, receive, send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait((relay, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._call.cancel()
            gone.cancel()
            if not relay.done():
                relay.cancel()
            await asyncio.wait((relay, gone))
        if not relay.cancelled() and (failure := relay.exception()) is not None:
            raise failure

    async def _relay(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            chunk = await self._call.read()
        except grpc.aio.AioRpcError as error:
            await self._with_cookie(error_response(error))(scope, receive, send)
            return
        await send(
            {"type": "http.response.start", "status": 200, "headers": self._with_cookie(self).raw_headers}
        )
        try:
            while isinstance(chunk, chat_pb2.ChatResponse):
                await _send_line(send, as_fields(chunk))
                chunk = await self._call.read()
        except grpc.aio.AioRpcError as error:
            await _send_line(send, {"error": {"code": error.code().name, "message": error.details() or ""}})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _with_cookie(self, response: Response) -> Response:
        if self._set_cookie is not None:
            response.headers["set-cookie"] = self._set_cookie
        return response


async def _send_line(send: Send, fields: Mapping[str, object]) -> None:
    line = json.dumps(fields, ensure_ascii=False).encode() + b"\n"
    await send({"type": "http.response.body", "body": line, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

"""The HTTP face: the page at `/`, and chat and feedback as JSON for it.

A gRPC client of the public listener, nothing more: bodies and chunks are the contract's own messages in protobuf's
JSON mapping, so a rule about chat or votes lives in one place, behind gRPC. Routes:

    GET  /              the page            POST /api/chat      ChatRequest → one ChatResponse a line (NDJSON)
    GET  /static/*      its css and js      POST /api/feedback  GiveFeedbackRequest → GiveFeedbackResponse
    GET  /healthz       up and reachable    POST /api/retract   RetractFeedbackRequest → RetractFeedbackResponse
                                            POST /api/conversation  GetConversationRequest → GetConversationResponse
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import grpc
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from heliotrope.config import Config
from heliotrope.errors import ConfigError
from heliotrope.identity import USER_KEY, new_user_id
from heliotrope.settings.serving import at
from heliotrope.v1 import chat_pb2, chat_pb2_grpc, feedback_pb2, feedback_pb2_grpc
from serving.gateway_guard import Guard, cookie_header, identity, read_message, refusal
from serving.gateway_stream import ChatStream, as_fields, error_response

CHAT_SECONDS = 900.0  # longest stream
CALL_SECONDS = 15.0  # longest wait for a vote to be durable

_PAGES = Path(__file__).parent / "pages"
_CODE_OF_HTTP = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 405: "UNIMPLEMENTED", 413: "RESOURCE_EXHAUSTED"}
_CHANNEL = (
    ("grpc.enable_http_proxy", 0),  # the listener is our own; a proxy from the environment must not see it
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_log = logging.getLogger(__name__)


class _Pages(StaticFiles):
    """Static files that a browser checks again each time: an upgrade never meets an old script."""

    def file_response(self, *args, **kwargs) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


class Gateway:
    """The routes, over one channel to the public listener."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._chat = chat_pb2_grpc.ChatServiceStub(channel)
        self._feedback = feedback_pb2_grpc.FeedbackServiceStub(channel)

    async def page(self, request: Request) -> Response:
        """The page; nothing is stored in the browser before its first message."""
        return FileResponse(_PAGES / "chat.html", headers={"cache-control": "no-cache"})

    async def health(self, request: Request) -> Response:
        """200 while the public listener can be reached, else 503."""
        state = self._channel.get_state(try_to_connect=True)
        ready = state in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.IDLE)
        return JSONResponse({"chat": state.name.lower()}, status_code=200 if ready else 503)

    async def chat(self, request: Request) -> Response:
        """Stream one turn. A browser without an identity gets one with the answer."""
        body = await read_message(request, chat_pb2.ChatRequest())
        user = identity(request)
        cookie = None if user else cookie_header(request, user := new_user_id())
        call = self._chat.Chat(body, metadata=((USER_KEY, user),), timeout=CHAT_SECONDS)
        return ChatStream(call, cookie)

    async def conversation(self, request: Request) -> Response:
        """The same person's conversation, after a reload."""
        body = await read_message(request, chat_pb2.GetConversationRequest())
        return await _unary(self._chat.GetConversation, body, identity(request))

    async def feedback(self, request: Request) -> Response:
        """Give one judgement; 200 means that it is durable."""
        body = await read_message(request, feedback_pb2.GiveFeedbackRequest())
        return await _unary(self._feedback.GiveFeedback, body, identity(request))

    async def retract(self, request: Request) -> Response:
        """Take one judgement back; 200 means that this is durable."""
        body = await read_message(request, feedback_pb2.RetractFeedbackRequest())
        return await _unary(self._feedback.RetractFeedback, body, identity(request))


def build_app(channel: grpc.aio.Channel, names: Sequence[str] = ()) -> Starlette:
    """The application; whoever made the channel closes it. names: see `serve_on`."""
    gateway = Gateway(channel)
    return Starlette(
        routes=[
            Route("/", gateway.page),
            Route("/healthz", gateway.health),
            Route("/api/chat", gateway.chat, methods=["POST"]),
            Route("/api/conversation", gateway.conversation, methods=["POST"]),
            Route("/api/feedback", gateway.feedback, methods=["POST"]),
            Route("/api/retract", gateway.retract, methods=["POST"]),
            Mount("/static", _Pages(directory=_PAGES / "static")),
        ],
        middleware=[Middleware(Guard, names=names)],
        exception_handlers={HTTPException: _http_error, grpc.aio.AioRpcError: _grpc_error},
    )


async def serve_http(config: Config, stop: asyncio.Event) -> None:
    """Serve the page until `stop` is set, then let streams end for `serving.drain_seconds`.

    Raises ConfigError when the address cannot be taken.
    """
    listener = bind(config.serving.host, config.serving.http_port)
    names = (config.serving.host, *config.serving.hosts)
    await serve_on(listener, config.serving.public_target, stop, config.serving.drain_seconds, names)


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket; port 0 takes a free one. Raises ConfigError with the remedy."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(
            f"the page's address {at(host, port)} cannot be taken: {error.strerror}; stop what uses it or set serving.http_port"
        ) from error


async def serve_on(
    listener: socket.socket, target: str, stop: asyncio.Event, drain_seconds: float, names: Sequence[str] = ()
) -> None:
    """Serve the page on `listener` for the public gRPC listener at `target` (host:port) until `stop` is set.

    names: what a browser may call this server, besides localhost and IP addresses.
    """
    async with grpc.aio.insecure_channel(target, options=_CHANNEL) as channel:
        server = _Server(
            uvicorn.Config(
                build_app(channel, names),
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, round(drain_seconds)),
            )
        )
        running = asyncio.create_task(server.serve(sockets=[listener]))
        stopped = asyncio.create_task(stop.wait())
        _log.info("page on http://%s/", at(*listener.getsockname()[:2]))
        try:
            await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            server.should_exit = True
            stopped.cancel()
            await running


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process that this is a task of."""
        yield


async def _unary(method: Callable[..., Awaitable], body: object, user: str | None) -> Response:
    metadata = ((USER_KEY, user),) if user else ()
    return JSONResponse(as_fields(await method(body, metadata=metadata, timeout=CALL_SECONDS)))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, _CODE_OF_HTTP.get(error.status_code, "INVALID_ARGUMENT"), error.detail)


async def _grpc_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, grpc.aio.AioRpcError)
    return error_response(error)

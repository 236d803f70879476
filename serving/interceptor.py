"""The one place where errors become gRPC statuses, and where a draining server turns requests away.

Handlers raise `HeliotropeError`; anything else is ours to fix: INTERNAL with an incident id that the log line repeats.
Streaming handlers are closed here as soon as the caller goes away, not when the garbage collector finds them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from heliotrope.errors import HeliotropeError, InvalidInput, ResourceExhausted, Unavailable

logger = logging.getLogger(__name__)

RETRY_AFTER = "retry-after-ms"
_ALWAYS = ("/grpc.health.v1.Health/", "/grpc.reflection.")


@dataclasses.dataclass
class Gate:
    """Whether new requests are taken."""

    draining: bool = False

    def check(self) -> None:
        """Raise Unavailable while draining."""
        if self.draining:
            raise Unavailable("serving is stopping and takes no new requests; try again in a few seconds")


@dataclasses.dataclass
class Room:
    """The calls that one listener answers at once. most: None for no bound."""

    most: int | None
    taken: int = 0

    @contextlib.contextmanager
    def seat(self) -> Iterator[None]:
        """Around one call. Raises ResourceExhausted when all seats are taken."""
        if self.taken == self.most:
            raise ResourceExhausted(
                f"{self.taken} calls are being answered, which is the most at once; try again in about 1 s"
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server. max_calls: answered at once, health and reflection not counted."""

    def __init__(self, gate: Gate, max_calls: int | None = None) -> None:
        self._gate = gate
        self._room = Room(max_calls)
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler with its errors translated, made once a method; health and reflection answer while draining too."""
        method = handler_call_details.method
        if (known := self._wrapped.get(method)) is not None:
            return known
        handler: Any = await continuation(handler_call_details)
        if handler is None or method.startswith(_ALWAYS):
            return handler
        self._wrapped[method] = wrapped = self._wrap(handler, method)
        return wrapped

    def _wrap(self, handler: Any, method: str) -> Any:
        if handler.response_streaming:
            stream = handler.stream_stream or handler.unary_stream
            field = "stream_stream" if handler.request_streaming else "unary_stream"
            return readable(handler._replace(**{field: self._streaming(stream, method)}))
        unary = handler.stream_unary or handler.unary_unary
        field = "stream_unary" if handler.request_streaming else "unary_unary"
        return readable(handler._replace(**{field: self._unary(unary, method)}))

    def _unary(self, behaviour: Callable, method: str) -> Callable:
        async def call(request: Any, context: grpc.aio.ServicerContext) -> Any:
            async with translated(context, method):
                with self._admitted(request):
                    return await behaviour(request, context)

        return call

    def _streaming(self, behaviour: Callable[..., AsyncIterator], method: str) -> Callable:
        async def call(request: Any, context: grpc.aio.ServicerContext) -> None:
            async with translated(context, method):
                with self._admitted(request):
                    sent = self._each(request) if isinstance(request, AsyncIterable) else request
                    async with contextlib.aclosing(behaviour(sent, context)) as messages:  # type: ignore[type-var]
                        async for message in messages:
                            await context.write(message)

        return call

    async def _each(self, sent: AsyncIterable[Any]) -> AsyncIterator[Any]:
        """The messages of a caller's stream, each as a request of its own: none is taken while draining."""
        async for message in sent:
            self._gate.check()
            check_readable(message)
            yield message

    @contextlib.contextmanager
    def _admitted(self, request: Any) -> Iterator[None]:
        self._gate.check()
        check_readable(request)
        with self._room.seat():
            yield


@dataclasses.dataclass(frozen=True)
class Malformed:
    """Stands for a request whose bytes are not the message that the method takes."""

    why: str


def readable(handler: Any) -> Any:
    """The handler with a deserialiser that does not raise: gRPC would answer INTERNAL, as if the fault were ours."""
    read = handler.request_deserializer

    def deserialise(data: bytes) -> Any:
        try:
            return read(data)
        except DecodeError as error:
            return Malformed(str(error))

    return handler._replace(request_deserializer=deserialise)


def check_readable(request: Any) -> None:
    """Raise InvalidInput for what could not be read."""
    if isinstance(request, Malformed):
        raise InvalidInput(
            f"the request is not the message of this method ({request.why}); see the proto files"
        )


@contextlib.asynccontextmanager
async def translated(context: grpc.aio.ServicerContext, method: str) -> AsyncIterator[None]:
    """Run a handler's body; its error ends the call with the right status and message."""
    try:
        yield
    except HeliotropeError as error:
        await _abort(context, error)
    except grpc.aio.AbortError:
        raise
    except Exception as error:
        incident = uuid.uuid4().hex[:12]
        logger.exception("incident %s in %s", incident, method)
        await context.abort(
            grpc.StatusCode.INTERNAL,
            f"internal error {type(error).__name__}; incident {incident} is in serving's log",
        )


async def _abort(context: grpc.aio.ServicerContext, error: HeliotropeError) -> NoReturn:
    hint = str(error.retry_ms)  # the first name is for clients, the second for gRPC's own retries
    trailing = ((RETRY_AFTER, hint), ("grpc-retry-pushback-ms", hint)) if error.retry_ms else ()
    await context.abort(grpc.StatusCode[error.code], str(error), trailing)
    raise AssertionError("abort returns never")

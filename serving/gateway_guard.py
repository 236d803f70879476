"""What every HTTP request passes before a route sees it: headers, origin, size, identity.

Pure ASGI on purpose: a middleware that wraps the response hides the client's disconnect from a stream.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Container, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as AsgiMessage

from heliotrope.errors import InvalidInput
from heliotrope.identity import check_user_id

MAX_BODY = 128 * 1024  # bytes
COOKIE = "heliotrope_user"
COOKIE_AGE = 400 * 24 * 3600  # seconds; browsers keep nothing longer

Contract = TypeVar("Contract", bound=Message)

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def refusal(status: int, code: str, message: str) -> JSONResponse:
    """An error as every route sends it: `{"error": {"code", "message"}}`, code = a gRPC status name."""
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)


class Guard:
    """Refuses requests to foreign names and POSTs from other origins; puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, names: Sequence[str] = ()) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; anything but HTTP passes untouched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        if not ours(host := headers.get("host", ""), self._names):
            message = (
                f"this page is not {host[:80]!r}; ask for it by its address, or add the name to serving.hosts"
            )
            await refusal(403, "PERMISSION_DENIED", message)(scope, receive, send_guarded)
            return
        if scope["method"] == "POST" and not same_origin(headers):
            said, host = headers.get("origin", "none"), headers.get("host", "")
            message = (
                f"this request comes from origin {said!r}, not from this page; send Origin: http(s)://{host}"
            )
            await refusal(403, "PERMISSION_DENIED", message)(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)


def ours(host: str, names: Container[str]) -> bool:
    """True when a Host header is localhost, an IP address, or one of the names (lower case).

    A site that points its own name at this machine (DNS rebinding) is same-origin for the browser; only the name
    gives it away. An address cannot be pointed anywhere.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return False
    return name == "localhost" or name in names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def same_origin(headers: Headers) -> bool:
    """True when Origin names the host that was asked. The scheme may differ: a proxy may end TLS."""
    origin = urlsplit(headers.get("origin", ""))
    return origin.scheme in ("http", "https") and origin.netloc == headers.get("host", "")


def identity(request: Request) -> str | None:
    """The browser's identity (32 hex digits) from its cookie, or None when it has no usable one."""
    try:
        return check_user_id(request.cookies.get(COOKIE, ""))
    except InvalidInput:
        return None


def cookie_header(request: Request, user: str) -> str:
    """The Set-Cookie value that makes the browser `user`; no script can read it, no other site send it."""
    secure = "; Secure" if request.url.scheme == "https" else ""
    return f"{COOKIE}={user}; Path=/; Max-Age={COOKIE_AGE}; HttpOnly; SameSite=Strict{secure}"


async def read_message(request: Request, into: Contract) -> Contract:
    """Read the JSON body (protobuf's JSON mapping) into the contract's message `into`.

    Raises HTTPException 415, 413 or 400 with what is wrong; no field is guessed or dropped.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"content type {kind!r} is not taken; send application/json")
    body = await _bounded_body(request)
    try:
        fields = json.loads(body)
        if not isinstance(fields, dict):
            raise HTTPException(400, f"the body is a JSON {type(fields).__name__}; send one JSON object")
        return json_format.ParseDict(fields, into)
    except RecursionError as error:
        raise HTTPException(400, "the JSON is nested too deeply; send one flat object") from error
    except (ValueError, SystemError, json_format.ParseError) as error:  # SystemError: an unpaired surrogate
        name = type(into).DESCRIPTOR.name
        raise HTTPException(400, f"the body is not a {name} as JSON: {error}; see the proto files") from error


async def _bounded_body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"the request is larger than {MAX_BODY} bytes; send a shorter message")
    return bytes(body)

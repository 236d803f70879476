"""Who is asking, without knowing who they are.

A client makes a random 128-bit id and sends it with each call. What is stored is only a keyed hash of it, so neither
the log nor a copy of it names anybody, and the same id under another tenant is another person.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import uuid
from pathlib import Path

from heliotrope.errors import ConfigError, InvalidInput

USER_KEY = "x-heliotrope-user"
TENANT_KEY = "x-heliotrope-tenant"
ROLE_KEY = "x-heliotrope-role"
DEFAULT_TENANT = "default"
NAMESPACE = uuid.UUID("6f1d3c52-6c5b-5f55-9d51-8d0a3e5b7a10")
KEY_BYTES = 32

_USER = re.compile(r"[0-9a-f]{32}")
_TENANT = re.compile(r"[a-z0-9-]{1,64}")
_REQUEST = re.compile(r"[\x21-\x7e]{1,64}")


def new_user_id() -> str:
    """A fresh client identity: 128 random bits as 32 hex digits."""
    return secrets.token_hex(16)


def check_user_id(value: str) -> str:
    """The value itself, or InvalidInput when it is not 32 lower-case hex digits."""
    if not _USER.fullmatch(value):
        raise InvalidInput(
            f"{USER_KEY} has {len(value)} characters and is not 32 lower-case hex digits; make one with 128 random bits"
        )
    return value


def check_tenant(value: str) -> str:
    """The value itself, or InvalidInput when it is not 1 to 64 of a-z, 0-9 and '-'."""
    if not _TENANT.fullmatch(value):
        raise InvalidInput(f"{TENANT_KEY} {value[:80]!r} is not 1 to 64 of a-z, 0-9 and '-'")
    return value


def check_request_id(value: str) -> str:
    """The value itself, or InvalidInput when it is not 1 to 64 printable ASCII characters without spaces."""
    if not _REQUEST.fullmatch(value):
        raise InvalidInput(
            f"request_id {value[:80]!r} is not 1 to 64 printable ASCII characters; a UUID will do"
        )
    return value


def pseudonym(key: bytes, tenant: str, user_id: str) -> str:
    """HMAC-SHA256(key, tenant ‖ 0 ‖ id) as 32 hex digits: what is stored in place of the identity."""
    return hmac.digest(key, f"{tenant}\0{user_id}".encode(), "sha256").hex()[:32]


def event_id(user: str, request_id: str, part: str = "") -> str:
    """UUIDv5(user, request_id, part): a repeated request makes the same event, on any replica."""
    return str(uuid.uuid5(NAMESPACE, f"{user}\0{request_id}\0{part}"))


def server_key(path: Path) -> bytes:
    """The server's secret from `path`; made at the first start, mode 0600, never overwritten."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"{path} holds {len(key)} bytes, not {KEY_BYTES}; restore it from a backup (without it old tickets are void)"
        )
    return key

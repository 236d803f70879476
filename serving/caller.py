"""Who calls: tenant and pseudonym from a call's metadata, and which listener it came in by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heliotrope.errors import Unauthenticated
from heliotrope.identity import DEFAULT_TENANT, TENANT_KEY, USER_KEY, check_tenant, check_user_id, pseudonym


@dataclass(frozen=True)
class Caller:
    """tenant: 1 to 64 of [a-z0-9-]. user: the pseudonym, 32 hex digits, or empty without an identity."""

    tenant: str
    user: str
    private: bool = False

    def identified(self) -> Caller:
        """The caller itself; raises Unauthenticated without an identity."""
        if not self.user:
            raise Unauthenticated(
                f"this call needs an identity; send metadata {USER_KEY} with 32 hex digits that you keep"
            )
        return self


def caller_of(metadata: Sequence[tuple[str, str | bytes]] | None, key: bytes, private: bool) -> Caller:
    """The caller behind a call's metadata. Raises InvalidInput for a malformed id or tenant."""
    sent = {
        name: value if isinstance(value, str) else value.decode("latin-1") for name, value in metadata or ()
    }
    tenant = check_tenant(sent.get(TENANT_KEY, DEFAULT_TENANT))
    return person(tenant, sent.get(USER_KEY, ""), key, private)


def person(tenant: str, identity: str, key: bytes, private: bool) -> Caller:
    """Of a tenant, by the identity that the client keeps; empty: nobody known. Raises InvalidInput for a malformed one."""
    return Caller(tenant, pseudonym(key, tenant, check_user_id(identity)) if identity else "", private)

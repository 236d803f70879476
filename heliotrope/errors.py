"""One tree of errors. Raised where the fact is known; turned into a gRPC status in one interceptor.

Every message says what is wrong, with the value, and what to do about it.
"""

from __future__ import annotations


class HeliotropeError(Exception):
    """Root of the tree. `code` is the name of the gRPC status that a caller sees.

    retry_ms: when trying again may help, milliseconds from now; 0: the same request will not do better.
    """

    code = "INTERNAL"
    retry_ms = 0


class InvalidInput(HeliotropeError):
    """The request itself is wrong: sending it again cannot help."""

    code = "INVALID_ARGUMENT"


class NotFound(HeliotropeError):
    """What the request names does not exist."""

    code = "NOT_FOUND"


class PermissionDenied(HeliotropeError):
    """The caller may not do this."""

    code = "PERMISSION_DENIED"


class Unauthenticated(HeliotropeError):
    """The caller did not say, or prove, who it is."""

    code = "UNAUTHENTICATED"


class AlreadyExists(HeliotropeError):
    """The id is taken by something else."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(HeliotropeError):
    """Right request, wrong state."""

    code = "FAILED_PRECONDITION"


class ResourceExhausted(HeliotropeError):
    """A limit is reached: disk, slots, seats."""

    code = "RESOURCE_EXHAUSTED"
    retry_ms = 1000


class Unavailable(HeliotropeError):
    """Try again later, or restart what has died."""

    code = "UNAVAILABLE"
    retry_ms = 1000

    def __init__(self, message: str, retry_ms: int = retry_ms) -> None:
        super().__init__(message)
        self.retry_ms = retry_ms


class Unimplemented(HeliotropeError):
    """Named in the contract, not built yet."""

    code = "UNIMPLEMENTED"


class ConfigError(HeliotropeError):
    """The configuration cannot be used."""

    code = "FAILED_PRECONDITION"


class ModelError(HeliotropeError):
    """The base model is missing, or not the one expected."""

    code = "FAILED_PRECONDITION"


class LogError(HeliotropeError):
    """The feedback log cannot be read or written."""

    code = "UNAVAILABLE"
    retry_ms = 1000


class RegistryError(HeliotropeError):
    """A policy in the registry cannot be used."""

    code = "FAILED_PRECONDITION"


class TornAdapter(RegistryError):
    """A version's folder is incomplete: READY or a listed file is missing. Its number is burned."""


class TamperedAdapter(RegistryError):
    """A version's folder is not what its manifest says."""

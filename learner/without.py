"""A person whom a version never learned from, as its manifest remembers them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from feedback.examples import Example

E = TypeVar("E", bound=Example)


@dataclass(frozen=True)
class Without:
    """Whose examples are left out; nobody's by default.

    A manifest is kept as long as its version, longer than an erased person's pseudonym may be passed around: it holds
    SHA-256(salt ‖ pseudonym), hex. Whoever has the examples can tell which ones were left out, and train the version
    again; the manifest alone names nobody.
    """

    salt: str = ""
    digest: str = ""

    @classmethod
    def of(cls, user: str) -> Without:
        """Leave out this pseudonym."""
        salt = secrets.token_hex(16)
        return cls(salt, _digest(salt, user))

    @classmethod
    def read(cls, recorded: Mapping[str, str]) -> Without:
        """As a manifest has it."""
        return cls(**recorded)

    def record(self) -> dict[str, str]:
        """What a manifest says; empty for nobody."""
        return asdict(self) if self.digest else {}

    def rest(self, examples: Sequence[E]) -> list[E]:
        """The examples of everybody else."""
        if not self.digest:
            return list(examples)
        out = {user for user in {e.user for e in examples} if _digest(self.salt, user) == self.digest}
        return [e for e in examples if e.user not in out]


NOBODY = Without()


def _digest(salt: str, user: str) -> str:
    return hashlib.sha256(f"{salt}{user}".encode()).hexdigest()

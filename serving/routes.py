"""Names to weights: which adapter a request runs on, and the right to keep it in its slot meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from heliotrope.errors import FailedPrecondition, NotFound, RegistryError
from heliotrope.policies import BASE, PolicyTable, number
from heliotrope.registry import PolicyVersion, Registry
from heliotrope.v1 import common_pb2
from serving.availability import Availability
from serving.engine import Adapter
from serving.identity import check_name
from serving.swap import Swapper


class Lease:
    """One response's hold on an adapter (None: the base model); the adapter stays in its slot until release()."""

    def __init__(self, swapper: Swapper, adapter: Adapter | None) -> None:
        self.adapter = adapter
        self._use = swapper.using(adapter)
        self._use.__enter__()

    def release(self) -> None:
        """Give it back, once."""
        self._use.__exit__(None, None, None)


@dataclass(frozen=True)
class Routes:
    """Finds weights by name. base_digest: that of the base model in service; other adapters do not fit it.
    available: while the engine is put back in place nothing is routed, or base would answer for the live version."""

    swapper: Swapper
    registry: Registry
    table: PolicyTable
    base_digest: str
    available: Availability = field(default_factory=Availability)

    def take(self, version: str) -> tuple[common_pb2.AdapterRef, Lease]:
        """The live weights for an empty name, else a version that was prepared. Does not wait.

        Raises Unavailable while the engine is being restarted.
        """
        self.available.check()
        if not version:
            return self._held(self.swapper.live)
        if version == BASE:
            return self._held(None)
        if adapter := self._resident(version):
            return self._held(adapter)
        raise FailedPrecondition(f"{version} has just left its slot; ask again")

    async def prepare(self, version: str) -> None:
        """Make a named version resident; the live one (empty) and the base always are. Raises NotFound, SwapError.

        One that is resident was read and checked when it was loaded: its files are not hashed again for every request.
        """
        self.available.check()
        if version and version != BASE:
            self._check_listed(version)
            if not self._resident(version):
                await self.swapper.ensure(await self._read(version))

    async def named(self, name: str) -> tuple[common_pb2.AdapterRef, Lease]:
        """Weights for samples: `base`, `live`, `policy-vN` or `shadow:<sha256>`, loaded when they are not resident."""
        self.available.check()
        if name in ("base", "live"):
            return self.take(BASE if name == "base" else "")
        kind, _, digest = name.partition(":")
        if kind != "shadow":
            await self.prepare(name)
            return self.take(name)
        version = await asyncio.to_thread(self.registry.shadow, digest)
        self._check_base(version)
        return self._held(await self.swapper.ensure_at_leisure(version))

    async def release_shadow(self, digest: str) -> None:
        """Delete a shadow's folder; one that is not there is fine.

        Its seat is free for the next one from now on. Until somebody needs it the weights stay there: the version
        that is published of them then goes live without another load.
        """
        await asyncio.to_thread(self.registry.drop_shadow, digest)

    def _resident(self, version: str) -> Adapter | None:
        slots = self.swapper.table.residents()
        return next((s.adapter for s in slots if s.ready and s.adapter.version == version), None)

    def _check_listed(self, version: str) -> None:
        if version not in self.table.standings:
            raise NotFound(
                f"there is no {version[:80]!r}; name base, live, a listed policy-vN or shadow:<sha256>"
            )

    async def _read(self, version: str) -> PolicyVersion:
        read = await asyncio.to_thread(self.registry.read, number(version))
        check_name(read, self.table.standing(version).digest)
        self._check_base(read)
        return read

    def _check_base(self, version: PolicyVersion) -> None:
        check_base(version, self.base_digest)

    def _held(self, adapter: Adapter | None) -> tuple[common_pb2.AdapterRef, Lease]:
        ref = common_pb2.AdapterRef(
            policy_version=adapter.version if adapter else BASE, digest=adapter.digest if adapter else ""
        )
        return ref, Lease(self.swapper, adapter)


def check_base(version: PolicyVersion, base_digest: str) -> None:
    """Raise RegistryError when an adapter was trained on another base model than the one in service."""
    trained_on = version.manifest.base_digest
    if trained_on != base_digest:
        raise RegistryError(
            f"{version.name} was trained on base {trained_on[:12]}, this server runs {base_digest[:12]}; train it anew"
        )

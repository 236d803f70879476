"""Is what lies in a slot what was published under that name? Exact, by sha256; behaviour is `serving.behaviour`'s."""

from __future__ import annotations

from heliotrope.errors import TamperedAdapter
from heliotrope.registry import PolicyVersion
from serving.engine import Adapter, Engine, EngineError


def check_name(version: PolicyVersion, digest: str) -> None:
    """Raise TamperedAdapter when a version's weights are not those that it was registered with (empty: unknown)."""
    if digest and version.digest != digest:
        raise TamperedAdapter(
            f"{version.path} holds weights {version.digest[:12]}, {version.name} was registered with {digest[:12]}; "
            "a number is never used again: restore the files, or publish a new version"
        )


async def check_identity(engine: Engine, adapter: Adapter) -> None:
    """Raise EngineError unless every A and B in the adapter's slot is the file's, and nothing else is there."""
    wanted, found = await engine.file_hashes(adapter), await engine.slot_hashes(adapter)
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        what = "missing" if name not in found else "not in the file" if name not in wanted else "different"
        raise EngineError(
            f"{len(wrong)} matrices in the slot are not the file's; {name} is {what}; load it again"
        )

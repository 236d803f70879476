"""`python -m serving` as a process of its own, in a folder that is thrown away."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence

from deploy.children import free_ports

DRAIN_SECONDS = 15.0


@contextlib.asynccontextmanager
async def serving_process(overrides: Sequence[str] = ()) -> AsyncIterator[tuple[str, str]]:
    """Addresses of the public and the private listener. The process is drained at the end; RuntimeError when it had
    ended by itself, or does not start."""
    with tempfile.TemporaryDirectory(prefix="heliotrope-") as folder:
        public, private, http = free_ports(3)
        sets = [
            f"paths.state={folder}/state",
            f"serving.public_port={public}",
            f"serving.private_port={private}",
        ]
        sets += [f"serving.http_port={http}", *overrides]
        command = [sys.executable, "-m", "serving", *(f"--set={one}" for one in sets)]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            assert process.stdout
            if not await process.stdout.readline():
                raise RuntimeError("serving did not start; its error is above")
            yield f"127.0.0.1:{public}", f"127.0.0.1:{private}"
            if process.returncode is not None:
                raise RuntimeError(f"serving ended by itself with {process.returncode}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), DRAIN_SECONDS)
            if process.returncode is None:
                process.kill()
                await process.wait()

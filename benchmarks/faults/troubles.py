"""What befalls broker, disk and reader while programs run and are killed."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Callable, Mapping

from benchmarks.faults.house import House, Program
from benchmarks.faults.plan import Trouble

FULL_BYTES = 64 << 10
"""A full disk: the kernel refuses serving every write past this many bytes of any file (RLIMIT_FSIZE)."""


async def befall(
    trouble: Trouble, house: House, learner: Callable[[], Program | None], fill: Callable[[bool], None]
) -> None:
    """Run one trouble to its end; one at a time befalls the broker. learner: the life of the moment. fill: fills the
    disk under serving, or frees it."""
    if trouble.kind in BROKER:
        async with house.breaking:
            await BROKER[trouble.kind](house, trouble.seconds)
    elif trouble.kind == "full":
        fill(True)
        await asyncio.sleep(trouble.seconds)
        fill(False)
    elif trouble.kind == "slow" and (reader := learner()) is not None:
        reader.signal(signal.SIGSTOP)
        await asyncio.sleep(trouble.seconds)
        reader.signal(signal.SIGCONT)


def limit_files(program: Program, full: bool) -> None:
    """Make a disk full for a running program, or free it again; needs no rights. The hard limit stays."""
    pid = program.process.pid or 0
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (FULL_BYTES if full else hard, hard))


async def _frozen(house: House, seconds: float) -> None:
    assert house.broker
    house.broker.freeze()
    await asyncio.sleep(seconds)
    house.broker.thaw()


async def _emptied(house: House, seconds: float) -> None:
    assert house.broker
    house.broker.kill()
    house.broker.start()


async def _absent(house: House, seconds: float) -> None:
    assert house.broker
    house.broker.kill()
    await asyncio.sleep(seconds)
    house.broker.start()


BROKER: Mapping[str, Callable] = {"frozen": _frozen, "emptied": _emptied, "absent": _absent}

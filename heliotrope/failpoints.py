"""Named places where a test can end or hold a process: `reach("before commit")`.

Off unless HELIOTROPE_FAILPOINTS is set; reaching one then costs a function call and nothing else. The variable names
what happens where, `name=action[@n]` with `;` between:

    HELIOTROPE_FAILPOINTS="between commit and reply=kill@3;in a checkpoint=hold"

`kill`: SIGKILL to this process at the n-th time (1 where none is given), as an operating system out of memory would.
`soon`: the same from another thread within 2 ms, so that it falls into what comes next, as the write of a checkpoint.
`hold`: that time sleeps for ever, so that somebody else can kill it there. `log`: says that it was there, each time.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
from dataclasses import dataclass, field
from functools import cache

from heliotrope.errors import ConfigError

VARIABLE = "HELIOTROPE_FAILPOINTS"
NAMES = (
    "before commit",
    "between commit and reply",
    "between reply and send",
    "between send and mark",
    "in a checkpoint",
    "between rows and position",
    "between files and READY",
)
"""Every failpoint of the product; faults benchmarks go through all of them."""
ACTIONS = ("kill", "soon", "hold", "log")
SOON_SECONDS = 0.002

logger = logging.getLogger(__name__)


@dataclass
class Armed:
    """What happens at a failpoint, and at which time of reaching it."""

    action: str
    at: int
    reached: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hit(self) -> bool:
        """Count this time; whether it is the one."""
        with self.lock:
            self.reached += 1
            return self.action == "log" or self.reached == self.at


def parse(text: str) -> dict[str, Armed]:
    """What the variable arms, by name. Raises ConfigError naming what it does not know."""
    armed = {}
    for entry in filter(None, text.split(";")):
        name, _, rest = entry.partition("=")
        action, _, times = rest.partition("@")
        if name not in NAMES or action not in ACTIONS or not (times or "1").isdigit():
            raise ConfigError(
                f"{VARIABLE} has {entry!r}; write name=action[@n] with a name of {', '.join(NAMES)} and {', '.join(ACTIONS)}"
            )
        armed[name] = Armed(action, int(times or "1"))
    return armed


def reach(name: str) -> None:
    """The program has come to this place; what the variable asks for happens now."""
    armed = _armed().get(name)
    if armed is None or not armed.hit():
        return
    logger.warning("failpoint %r reached: %s", name, armed.action)
    if armed.action == "kill":
        _kill()
    elif armed.action == "soon":
        threading.Timer(random.uniform(0, SOON_SECONDS), _kill).start()
    elif armed.action == "hold":
        threading.Event().wait()


@cache
def _armed() -> dict[str, Armed]:
    return parse(os.environ.get(VARIABLE, ""))


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)

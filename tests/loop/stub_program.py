"""A program to be looked after: `die` ends at once and noisily, `polite` ends on SIGTERM, `stubborn` does not and has a child."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Says what it does, and its process ids, on standard output."""
    mode = sys.argv[1]
    if mode == "die":
        print("the port 50051 is taken")
        print(" - leaked function\n" * 20)  # as the engine's libraries do at the end
        sys.exit(3)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = os.fork()
        if not child:
            child = os.getpid()
        else:
            print(f"pids {os.getpid()} {child}", flush=True)
    else:
        signal.signal(signal.SIGTERM, lambda *_: (print("drained", flush=True), sys.exit(0)))
        print(f"pids {os.getpid()}", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()

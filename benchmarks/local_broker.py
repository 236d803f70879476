"""A small Kafka-protocol broker on this machine that can be killed, frozen and started again empty."""

from __future__ import annotations

import signal
import subprocess
import time

from deploy.broker import command, listening

START_SECONDS = 30.0


class LocalBroker:
    """A broker process in memory, on one port for its life; started again it is empty."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Listens when it returns. Raises TimeoutError."""
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command(self.port), stdout=quiet, stderr=quiet)
        end = time.monotonic() + START_SECONDS
        while not listening(self.port):
            if time.monotonic() > end:
                raise TimeoutError(f"no broker listens on 127.0.0.1:{self.port} after {START_SECONDS:g} s")
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL: all that it held is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Connections stay open and nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

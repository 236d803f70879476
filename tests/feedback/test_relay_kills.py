"""SIGKILL at the relay's and the log's failpoints: what was acknowledged is at the broker after the next start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from feedback.kafka_log import KafkaLog
from feedback.log import read_all
from heliotrope.failpoints import VARIABLE
from tests.feedback.broker import settings

CHILD = """
import sys, time
from functools import partial
from pathlib import Path
from feedback.kafka_link import KafkaLink
from feedback.outbox import Outbox
from feedback.relay import Relay
from feedback.sqlite_log import SqliteLog
from heliotrope.settings.log import Kafka, Outbox as Settings
from tests.feedback.log_events import vote

folder, kafka, first = Path(sys.argv[1]), Kafka.model_validate_json(sys.argv[2]), int(sys.argv[3])
log = SqliteLog(folder / "events.db")
outbox = Outbox(log, str(folder / "relay.db"), Settings(window=4))
relay = Relay(outbox, partial(KafkaLink, kafka), patience=20)
relay.start()
for number in range(first, first + 20):
    event = vote(f"v{number}")
    event.conversation_id = f"talk{number % 5}"
    log.append([event])
    print(f"v{number}", flush=True)
end = time.monotonic() + 60
while outbox.depth and time.monotonic() < end:
    time.sleep(0.01)
relay.stop()
outbox.close()
log.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["before commit", "between reply and send", "between send and mark"])
def test_nothing_acknowledged_is_lost_when_killed_there(
    place: str, tmp_path: Path, kafka_address: str
) -> None:
    at = settings(kafka_address)

    def run(first: int, armed: str) -> tuple[int, list[str]]:
        words = [sys.executable, "-W", "ignore", "-c", CHILD, str(tmp_path), at.model_dump_json(), str(first)]
        done = subprocess.run(
            words,
            env=os.environ | {VARIABLE: armed},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout.split()

    acknowledged: list[str] = []
    for number in range(3):
        code, told = run(100 * number, f"{place}=kill@{3 + 2 * number}")
        assert code == -9
        acknowledged += told
    code, told = run(1000, "")
    assert code == 0
    log = KafkaLog(at)
    found = {r.event.event_id for r in read_all(log, "feedback") if r.event}
    log.close()
    assert set(acknowledged + told) <= found and len(told) == 20

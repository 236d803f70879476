"""`python -m benchmarks.storage`: what an exchange and a vote take on disk, in the log (as it is written, sealed; and as
it would be in the open), in the people's keys and in each derived store.

Exchanges are made to size: `--prompt` and `--response` tokens, four characters of text each; a person gives twenty. What
is measured is the growth of the files, checkpointed, from one half of the run to the other, so that empty pages do not count.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from feedback.join import Joiner
from feedback.sealed_log import SealedStore
from feedback.sqlite_log import SqliteLog
from feedback.training_set import TrainingSet
from heliotrope.v1 import common_pb2, events_pb2, feedback_pb2
from serving.keys import KeyStore

START = 1_700_000_000
VOCABULARY = 49_152
BATCH = 200
FILES = ("log_sealed", "log_plain", "keys", "derived")


@dataclass(frozen=True)
class Size:
    """Tokens of one exchange. logprobs are four bytes each."""

    prompt: int
    response: int


def main() -> int:
    """Print bytes an exchange and a vote."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage", description=__doc__)
    parser.add_argument("--exchanges", type=int, default=2_000, help="how many answers, two to a vote")
    parser.add_argument("--prompt", type=int, default=120, help="tokens of a prompt")
    parser.add_argument("--response", type=int, default=120, help="tokens of a response")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), asked.exchanges, Size(asked.prompt, asked.response))))
    return 0


def measure(folder: Path, exchanges: int, size: Size) -> dict:
    """Bytes an exchange (its start and its end) and a vote, by store."""
    growth: dict[str, dict[str, float]] = {}
    half = exchanges // 2
    for what, count in (("exchange", half), ("vote", half // 2)):
        for first in (0, count):
            before = _sizes(folder)
            _grow(folder, what, range(first, first + count), size)
            print(f"{what}s: {first + count}", file=sys.stderr, flush=True)
            after = _sizes(folder)
        growth[what] = {name: round((after[name] - before[name]) / count, 1) for name in after}
    return {
        "bytes_per_exchange": growth["exchange"], "bytes_per_vote": growth["vote"], "exchanges": exchanges,
        "prompt_tokens": size.prompt, "response_tokens": size.response,
    }  # fmt: skip


def _sizes(folder: Path) -> dict[str, int]:
    paths = {name: folder / f"{name}.db" for name in FILES}
    return {name: path.stat().st_size if path.exists() else 0 for name, path in paths.items()}


def _grow(folder: Path, what: str, numbers: range, size: Size) -> None:
    """Write the same to both logs and follow one; all files are whole, without a write-ahead log, when it returns."""
    paths = {name: folder / f"{name}.db" for name in FILES}
    log, keys = SqliteLog(paths["log_plain"]), KeyStore(paths["keys"], b"k" * 32)
    sealed = SealedStore(SqliteLog(paths["log_sealed"]), keys)
    for start in range(numbers.start, numbers.stop, BATCH):
        part = numbers[start - numbers.start : start - numbers.start + BATCH]
        events = [e for n in part for e in (_exchange(n, size) if what == "exchange" else [_vote(n)])]
        log.append(events)
        sealed.append(events)
    kept = TrainingSet(paths["derived"], lambda: Joiner(("human",), 0.15), "benchmark", lambda: START + 1e6)
    kept.follow(log)
    for one in (kept, log, sealed, keys):
        one.close()


def _name(*parts: object) -> str:
    return str(uuid.uuid5(uuid.UUID(int=7), "/".join(map(str, parts))))


def _event(n: int, kind: str) -> events_pb2.Event:
    made = events_pb2.Event(
        event_id=_name(kind, n), producer_id=_name("producer"), sequence=n + 1, tenant="default", user=_name(n // 20)[:32],
        conversation_id=_name("conversation", n // 2), source=common_pb2.SOURCE_HUMAN, purpose=common_pb2.PURPOSE_CHAT,
        consent=True, schema=1,
    )  # fmt: skip
    made.time.FromSeconds(START + n)
    return made


def _exchange(n: int, size: Size) -> list[events_pb2.Event]:
    """Start and end of answer n; answers 2k and 2k + 1 are to one prompt."""
    started, ended, rng = _event(n, "start"), _event(n, "end"), random.Random(n)
    begun = started.response_started
    begun.response_id, begun.request_id, begun.arm_probability = (
        _name("response", n),
        _name("request", n),
        1.0,
    )
    begun.adapter.policy_version, begun.adapter.digest = "policy-v1", "d" * 64
    begun.sampling.temperature, begun.sampling.max_tokens = 0.8, size.response
    begun.sibling_response_ids.append(_name("response", n ^ 1))
    served = ended.response_served
    served.response_id = begun.response_id
    served.started.CopyFrom(begun)
    served.messages.add(role=common_pb2.ROLE_USER, content=_text(random.Random(n // 2), size.prompt))
    served.text = _text(rng, size.response)
    served.prompt_token_ids.extend(random.Random(n // 2).choices(range(VOCABULARY), k=size.prompt))
    served.response_token_ids.extend(rng.choices(range(VOCABULARY), k=size.response))
    served.logprobs.extend([-rng.random() for _ in range(size.response)])
    served.propensity = common_pb2.PROPENSITY_PROCESSED
    served.finish_reason = common_pb2.FINISH_REASON_STOP
    for field in ("base_digest", "tokenizer", "template", "system_prompt"):
        setattr(served.envelope, field, "e" * 64)
    served.first_token_seconds, served.total_seconds = 0.3, 2.0
    return [started, ended]


def _text(rng: random.Random, tokens: int) -> str:
    return "".join(rng.choices("etaoin shrdlu", k=4 * tokens))


def _vote(n: int) -> events_pb2.Event:
    """A comparison of answers 2n and 2n + 1, by the person who got them."""
    made = _event(n, "vote")
    made.user = _event(2 * n, "end").user
    made.feedback_given.feedback.comparison.choice = feedback_pb2.CHOICE_A
    for i, side in enumerate((common_pb2.SIDE_A, common_pb2.SIDE_B)):
        target = made.feedback_given.targets.add(response_id=_name("response", 2 * n + i), side=side)
        target.adapter.policy_version, target.adapter.digest = "policy-v1", "d" * 64
    return made


if __name__ == "__main__":
    sys.exit(main())

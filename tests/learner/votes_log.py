"""A real log with exchanges and votes of people who prefer small token ids, and a sampler that needs no engine."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence

from feedback.sqlite_log import SqliteLog
from heliotrope.chat import sha256_files
from heliotrope.config import Config
from heliotrope.errors import Unavailable
from heliotrope.policies import LIVE
from heliotrope.v1 import common_pb2, events_pb2, feedback_pb2
from learner.samples import Sample

NAMESPACE = uuid.UUID(int=7)


def unique(*parts: object) -> str:
    """A stable UUID of the parts."""
    return str(uuid.uuid5(NAMESPACE, "/".join(map(str, parts))))


TOKENIZER = sha256_files([Config().model.folder / "tokenizer.json"])


class Collected:
    """In place of a log: events to be changed before they are written."""

    def __init__(self) -> None:
        self.events: list[events_pb2.Event] = []

    def append(self, events: Sequence[events_pb2.Event]) -> None:
        """Keep them."""
        self.events += events


def write_votes(log: SqliteLog | Collected, count: int, first: int = 0, tied: bool = False) -> None:
    """`count` comparisons of two answers each, one conversation and person apiece; the smaller ids win, or nobody."""
    events = []
    for n in range(first, first + count):
        rng = random.Random(n)
        low, high = ([rng.randrange(base, base + 40) for _ in range(6)] for base in (300, 900))
        sides = [low, high] if n % 2 else [high, low]
        ids = [unique(n, side) for side in "ab"]
        events += [_served(n, id, rng, tokens) for id, tokens in zip(ids, sides, strict=True)]
        choice = feedback_pb2.CHOICE_A if n % 2 else feedback_pb2.CHOICE_B
        choice = feedback_pb2.CHOICE_TIE if tied else choice
        events.append(_vote(n, ids, choice))
    log.append(events)


def write_others(log: SqliteLog | Collected, numbers: range) -> None:
    """A thumb, a correction or a grade in turn, each of one answer, one conversation and person apiece."""
    events = []
    for n in numbers:
        rng, id = random.Random(n), unique(n, "a")
        events.append(_served(n, id, rng, [rng.randrange(300, 340) for _ in range(6)]))
        event = _about(n, id, "other")
        feedback = event.feedback_given.feedback
        if n % 3 == 0:
            feedback.thumb.response_id, feedback.thumb.up = id, n % 2 == 0
        elif n % 3 == 1:
            feedback.correction.response_id, feedback.correction.text = id, "Say it like this."
        else:
            feedback.rating.response_id, feedback.rating.helpfulness = id, 4
        events.append(event)
    log.append(events)


def write_correction(log: SqliteLog, n: int) -> None:
    """The person of vote `n` rewrites the answer that they chose, and grades both: 4 and 2."""
    better, worse = (unique(n, side) for side in ("ab" if n % 2 else "ba"))
    events = [_about(n, better, "correction"), _about(n, better, "grade"), _about(n, worse, "worse")]
    events[0].feedback_given.feedback.correction.response_id = better
    events[0].feedback_given.feedback.correction.text = "Say it like this."
    for event, id, helpfulness in zip(events[1:], (better, worse), (4, 2), strict=True):
        rating = event.feedback_given.feedback.rating
        rating.response_id, rating.helpfulness = id, helpfulness
    log.append(events)


def make_live(log: SqliteLog, version: str, digest: str, epoch: int) -> None:
    """Say that a published version is live."""
    change = events_pb2.PolicyStateChanged(policy_version=version, digest=digest, to=LIVE, epoch=epoch)
    log.append([events_pb2.Event(event_id=unique(version, epoch), policy_state_changed=change)])


def _event(n: int, *parts: object) -> events_pb2.Event:
    event = events_pb2.Event(
        event_id=unique("event", n, *parts),
        producer_id=unique("producer"),
        sequence=n * 10 + 5,
        tenant="default",
        user=f"{n:032x}",
        conversation_id=unique("conversation", n),
        source=common_pb2.SOURCE_HUMAN,
        purpose=common_pb2.PURPOSE_CHAT,
        consent=True,
        schema=1,
    )
    event.time.FromSeconds(1_700_000_000 + n)
    return event


def _about(n: int, response_id: str, *parts: object) -> events_pb2.Event:
    event = _event(n, *parts)
    event.feedback_given.targets.add(response_id=response_id).adapter.policy_version = "policy-v0"
    return event


def _served(n: int, response_id: str, rng: random.Random, tokens: Sequence[int]) -> events_pb2.Event:
    event = _event(n, response_id)
    served = event.response_served
    served.response_id = response_id
    served.started.response_id = response_id
    served.started.adapter.policy_version = "policy-v0"
    served.prompt_token_ids.extend([1, 20 + n % 50, 30, 40])
    served.response_token_ids.extend(tokens)
    served.logprobs.extend([-1.0] * len(tokens))
    served.envelope.tokenizer = TOKENIZER
    served.finish_reason = common_pb2.FINISH_REASON_LENGTH
    return event


def _vote(n: int, ids: Sequence[str], choice: feedback_pb2.Choice) -> events_pb2.Event:
    event = _event(n, "vote")
    given = event.feedback_given
    given.feedback.comparison.choice = choice
    for id in ids:
        given.targets.add(response_id=id).adapter.policy_version = "policy-v0"
    return event


class ScriptedSampler:
    """Answers a draw at once. `down`: serving is away. `looks`: how often it was asked for people. `drawn`: which adapters were asked; `released`: shadows."""

    def __init__(self) -> None:
        self.down = False
        self.looks = 0
        self.drawn: list[str] = []
        self.released: list[str] = []

    def draw(self, adapter: str, prompts: Sequence[Sequence[int]], sampling: common_pb2.Sampling):
        if self.down:
            raise Unavailable("scripted: serving is away")
        self.drawn.append(adapter)
        base, logprob = (300, -0.5) if adapter.startswith("shadow:") else (900, -1.0)
        return [
            Sample(i, tuple(p), (base, base + 1, base + 2), (logprob,) * 3) for i, p in enumerate(prompts)
        ]

    def people(self) -> int:
        self.looks += 1
        return 0

    def release(self, digest: str) -> None:
        self.released.append(digest)

    def close(self) -> None:
        """Nothing is open."""

"""People who judge, change their minds and take back, and what a reader of the log must then know: told by the generator
from what they meant, never by joining events."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field

from feedback.examples import Correction, Example, Preference, Thumb
from feedback.log import Record, topic_of
from heliotrope.v1.events_pb2 import Event
from tests.feedback.join_events import compared, header, judgement, retracted, served

DAY = 86_400.0
START = 1_700_000_000.0


@dataclass
class Crowd:
    """events: in the order in which they happened. truth: what is meant in the end, by (person, kind)."""

    events: list[Event] = field(default_factory=list)
    truth: dict[tuple[str, str], Example] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The training set's hash, computed from what people meant with nothing but a JSON and a hash function."""
        return digest_of(self.truth.values())


def digest_of(examples: Iterable[Example]) -> str:
    """SHA-256 over the sorted lines "id sha256(content)"."""
    lines = []
    for example in examples:
        content = json.dumps([type(example).__name__, asdict(example)], sort_keys=True, separators=(",", ":"))
        lines.append(f"{example.id} {hashlib.sha256(content.encode()).hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def crowd(seed: int, people: int = 5, acts: int = 30) -> Crowd:
    """A random history of `acts` judgements and retractions on a pair of responses a person, over a month and two runs
    of serving. Some votes come before the response's end and some a day after it."""
    rng, made = random.Random(seed), Crowd()
    ends = {user: _pair(rng, user) for user in (f"u{i}" for i in range(people))}
    for n in range(acts):
        user = rng.choice(sorted(ends))
        if not ends[user].told and rng.random() < 0.7:
            made.events += ends[user].tell()
        act = _Act(user, f"v{n}", START + n * DAY, n + 1, "run-1" if n < acts // 2 else "run-2", ends[user])
        _judge(rng, made, act)
    for one in ends.values():
        made.events += one.tell()
    return made


@dataclass
class _Ends:
    """A person's two responses; `told` once their ends are in the log."""

    a: Event
    b: Event
    told: bool = False

    def tell(self) -> list[Event]:
        news = [] if self.told else [self.a, self.b]
        self.told = True
        return news


@dataclass
class _Act:
    user: str
    id: str
    at: float
    sequence: int
    producer: str
    ends: _Ends

    def common(self) -> dict:
        """The fields of any example of this judgement of the person's pair."""
        return {
            "id": self.id, "event_ids": (self.id, self.ends.a.event_id, self.ends.b.event_id), "prompt_ids": (1, 2, 3),
            "user": self.user, "conversation": f"talk-{self.user}", "time": self.at, "source": "human",
        }  # fmt: skip

    def single(self) -> dict:
        """The same of a judgement of the first response alone."""
        return self.common() | {"event_ids": (self.id, self.ends.a.event_id), "version": "policy-v1"}

    def header(self) -> Event:
        return header(self.id, self.user, self.at, self.sequence, self.producer)

    def ids(self, one: Event) -> tuple[int, ...]:
        return tuple(one.response_served.response_token_ids)


def _pair(rng: random.Random, user: str) -> _Ends:
    made = [served(f"{side}-{user}", tuple(rng.randrange(1000) for _ in range(12)), user) for side in "ab"]
    for event in made:
        event.time.FromSeconds(int(START))
        event.response_served.logprobs.extend([-1.5] * 12)
        event.response_served.text = "some text"
        event.response_served.messages.add(content="a question")
    return _Ends(*made)


def _judge(rng: random.Random, made: Crowd, act: _Act) -> None:
    choose: Callable = rng.choice([_compare, _compare, _thumb, _correct, _take_back])
    choose(rng, made, act)


def _compare(rng: random.Random, made: Crowd, act: _Act) -> None:
    pick = rng.choice(["A", "B", "tie"])
    made.events.append(compared(act.id, pick, act.user, act.at, act.sequence, act.producer))
    better, worse = (act.ends.b, act.ends.a) if pick == "B" else (act.ends.a, act.ends.b)
    made.truth[act.user, "comparison"] = Preference(
        **act.common(), chosen_ids=act.ids(better), rejected_ids=act.ids(worse),
        chosen_version="policy-v1", rejected_version="policy-v1", tie=pick == "tie",
    )  # fmt: skip


def _thumb(rng: random.Random, made: Crowd, act: _Act) -> None:
    event, up = judgement(act.header(), f"a-{act.user}"), rng.random() < 0.5
    event.feedback_given.feedback.thumb.up = up
    made.events.append(event)
    made.truth[act.user, "thumb"] = Thumb(**act.single(), response_ids=act.ids(act.ends.a), up=up)


def _correct(rng: random.Random, made: Crowd, act: _Act) -> None:
    event, text = judgement(act.header(), f"a-{act.user}"), f"better {rng.random()}"
    event.feedback_given.feedback.correction.text = text
    made.events.append(event)
    made.truth[act.user, "correction"] = Correction(
        **act.single(), response_ids=act.ids(act.ends.a), text=text
    )


def _take_back(rng: random.Random, made: Crowd, act: _Act) -> None:
    own = sorted(key for key in made.truth if key[0] == act.user)
    if own:
        target = made.truth.pop(rng.choice(own))
        made.events.append(retracted(act.id, target.id, act.user, act.sequence))


def delivered(
    events: Sequence[Event], rng: random.Random, partitions: int = 3, repeats: float = 0.3
) -> list[Record]:
    """The events as a reader may meet them: spread over partitions by conversation, some more than once, partitions
    interleaved at random, each in its own order."""
    lines: dict[tuple[str, int], list[Record]] = {}
    for event in events:
        where = (
            topic_of(event),
            int(hashlib.sha256(event.conversation_id.encode()).hexdigest(), 16) % partitions,
        )
        line = lines.setdefault(where, [])
        for _ in range(1 + (rng.random() < repeats)):
            line.append(Record(*where, len(line) + 1, event))
    queues, order = [line[:] for line in lines.values()], []
    while queues:
        queue = rng.choice(queues)
        order.append(queue.pop(0))
        queues = [q for q in queues if q]
    return order

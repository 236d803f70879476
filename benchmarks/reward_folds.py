"""What one fold of `benchmarks.reward_quality` said of every unseen pair, kept in a file so that a stop loses one fold at most."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from time import monotonic

from benchmarks.pairs import Pair, load_pairs, preference, row_tokens, shuffled
from benchmarks.reward_ours import Trained, train
from benchmarks.reward_votes import agreed_pairs
from benchmarks.words import Words
from heliotrope.chat import ChatFormat
from learner.reward_net import HEAD

DECIDES = (
    "sources",
    "limit",
    "others",
    "folds",
    "max_tokens",
    "depth",
    "layers",
    "rank",
    "learning_rate",
    "replay",
    "model",
)
"""Arguments that a fold's result depends on, beside the files and how the reward model reads a response."""


@dataclass(frozen=True)
class Seen:
    """What both models said of one unseen pair: reward of chosen minus rejected. length: tokens of chosen minus rejected."""

    id: str
    source: str
    prompt: str
    ours: float
    words: float
    length: int


@dataclass(frozen=True)
class Fold:
    """core: the fold's own pairs. others, raters: pairs of other sources, and those on which three raters agree.
    prequential: 1 right, 0 wrong, for each training pair before it was learned from."""

    core: list[Seen]
    others: list[Seen]
    raters: list[Seen]
    prequential: list[float]
    trained_on: int
    seconds: float


@dataclass(frozen=True)
class Data:
    """The pairs of a run, in an order that depends on their ids alone."""

    core: list[Pair]
    others: list[Pair]
    raters: list[Pair]
    left_out: int
    """Pairs of the trained sources that are too long, or of which one answer says nothing."""

    @classmethod
    def load(cls, arguments: argparse.Namespace, chat: ChatFormat) -> Data:
        """Those that fit into `--max-tokens`."""
        given = shuffled(load_pairs(arguments.pairs))
        read = [p for p in given if fits(p, chat, arguments.max_tokens)]
        left_out = sum(p.source in arguments.sources for p in given) - sum(
            p.source in arguments.sources for p in read
        )
        voted = agreed_pairs(arguments.votes) if arguments.votes else []
        return cls(
            [p for p in read if p.source in arguments.sources][: arguments.limit],
            [p for p in read if p.source not in arguments.sources][: arguments.others],
            [p for p in voted if fits(p, chat, arguments.max_tokens)][: arguments.others],
            left_out,
        )


def fits(pair: Pair, chat: ChatFormat, max_tokens: int) -> bool:
    """Whether both answers say something and their row is short enough."""
    return bool(pair.chosen and pair.rejected) and row_tokens(preference(pair, chat)) <= max_tokens


def fold_of(pair: Pair, folds: int) -> int:
    """Pairs of one prompt share a fold."""
    return int(sha256(pair.prompt.encode()).hexdigest(), 16) % folds


def measured(number: int, data: Data, chat: ChatFormat, arguments: argparse.Namespace) -> Fold:
    """A fold's result: read from `--work` when it was measured before with the same arguments, else measured and kept."""
    path = arguments.work / f"{_key(arguments)}-fold-{number}.json"
    if not path.is_file():
        arguments.work.mkdir(parents=True, exist_ok=True)
        unready = path.with_suffix(".unready")
        unready.write_text(json.dumps(asdict(_measure(number, data, chat, arguments))))
        unready.replace(path)
    values = json.loads(path.read_text())
    seen = {name: [Seen(**item) for item in values[name]] for name in ("core", "others", "raters")}
    return Fold(**values | seen)


def _measure(number: int, data: Data, chat: ChatFormat, arguments: argparse.Namespace) -> Fold:
    kept = [p for p in data.core if fold_of(p, arguments.folds) == number]
    known = [p for p in data.core if fold_of(p, arguments.folds) != number]
    began = monotonic()
    trained, words = train(known, chat, arguments), Words(known)
    first = number == 0  # one model is enough for what no fold was trained on
    fold = Fold(
        _both(kept, trained, words),
        _both(data.others if first else [], trained, words),
        _both(data.raters if first else [], trained, words),
        trained.prequential,
        len(known),
        monotonic() - began,
    )
    print(
        f"fold {number}: {len(known)} + {len(kept)} pairs, {fold.seconds:.0f} s", file=sys.stderr, flush=True
    )
    return fold


def _key(arguments: argparse.Namespace) -> str:
    said = {name: str(getattr(arguments, name)) for name in DECIDES} | {"head": HEAD}
    files = {"pairs": arguments.pairs, "votes": arguments.votes}
    said |= {name: sha256(path.read_bytes()).hexdigest() for name, path in files.items() if path}
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def _both(pairs: Sequence[Pair], trained: Trained, words: Words) -> list[Seen]:
    if not pairs:
        return []
    ours, lengths = trained.margins(pairs)
    found = zip(pairs, ours, words.margins(pairs), lengths, strict=True)
    return [Seen(p.id, p.source, p.prompt, mine, float(theirs), length) for p, mine, theirs, length in found]

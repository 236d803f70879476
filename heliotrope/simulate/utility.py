"""The hidden utility of the simulated people: what, on average, they like in a reply.

Nobody who learns may read this. Only `heliotrope.simulate` and the final judging import it, which an
architecture test enforces; the learner sees choices and nothing else. It is a stand-in for a crowd's taste,
honest but crude: it reads words and punctuation, not truth. A fluent falsehood with numbers in it scores
well here.

    utility = Σ weight · trait,   each trait in [0, 1]

- `on_topic`: they want the question answered, not its field. Share of the prompt's content words that come
  back; 60 % is all that anyone asks for.
- `concrete`: they like what can be done or checked. Different numbers, list items, named examples and words to the
  reader ("you", at half weight) per 20 words, saturating: 1 - exp(-density).
- `plain`: they prefer plain words. Share of words that are long (9 letters or more) or vague, from 0 to 40 %.
- `direct`: they dislike throat-clearing and self-talk. Filler in the first 12 words costs half, "I am an AI"
  anywhere costs half.
- `fresh`: they dislike being told the same thing twice. Share of content words used within the last 15.
- `whole`: they prefer sentences that end. Share of the text that lies in such sentences; a small weight, so
  that cutting a reply at a full stop does not win by itself.

No trait is a count: each is a share, a density per word, or a yes/no, so none simply grows or falls with
length. The weights are in `WEIGHTS`; they were set on samples of the default model (docs/experiments.md)
and are frozen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

WEIGHTS: Mapping[str, float] = {
    "on_topic": 1.2,
    "concrete": 2.0,
    "plain": 2.0,
    "direct": 1.0,
    "fresh": 1.2,
    "whole": 0.3,
}
"""What the average person gives for each trait. One unit is about one standard deviation between two base
replies."""

_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*|\d+(?:[.,:]\d+)*")
_ITEM = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s+\S", re.MULTILINE)
_END = re.compile(r"[.!?:][\"'”’)*]*(?=\s|$)")
_ITEM_MARK = re.compile(r"(?:^|\n)\s*\d+[.)]$")
_EXAMPLE = re.compile(r"\b(?:for example|for instance|such as|e\.g\.)", re.IGNORECASE)
_ACTION = re.compile(r"\b(?:you|your)\b", re.IGNORECASE)

_STOP_WORDS = """
a about after again all also am an and any are as at be because been before being between both but
by can cannot could did do does doing don't down each few for from get give go good had has have he
her here here's him his how i i'm if in into is it it's its just know like made make makes many may
me mean more most much my name need no not now of off on once one only or other our out over own
plan say see short should simple so some suggest such take than that that's the their them then
there these they thing things this those three through to too two under up us use used very was way
ways we were what when where which while who why will with without would write you your explain
compare difference best people person someone something
"""
STOP = frozenset(_STOP_WORDS.split())
"""Words that carry no topic."""

_VAGUE_WORDS = """
aspect aspects balance beautiful certain complex comprehensive crucial delicate delightful different
diverse effective effectively elements ensure ensuring essential essentially experience experiences
exciting factors fantastic fascinating great helpful important incredible incredibly involve
involves involving journey key significant significantly numerous overall perfect process processes
quite rather really simply special specific sure task tasks truly typically unique various variety
vital wonderful world amazing approach challenging considering considerations crafting creating
depends factor general generally likely particular particularly valuable well-crafted
"""
VAGUE = frozenset(_VAGUE_WORDS.split())
"""Words that sound like an answer without saying anything that could be done or checked."""

_FILLER = re.compile(
    r"\b(?:sure|certainly|of course|absolutely|great question|what a|happy to|glad|i'm here|i am here|"
    r"as an ai|ai assistant|i'm an ai|thank you for|i'd be|i can help|let's|welcome|"
    r"here's a|here is a|here are some|"
    r"in today's|it's important|it is important|it's essential|it's crucial|in the world of|when it comes to|"
    r"the art of|can be a|is a crucial|delicate balance|age-old|involves)\b",
    re.IGNORECASE,
)
_SELF = re.compile(r"\b(?:as an ai|i'm an ai|i am an ai|ai assistant|language model|smollm)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Traits:
    """What is read from one reply; each trait is in [0, 1] and 1 is what people like."""

    on_topic: float
    concrete: float
    plain: float
    direct: float
    fresh: float
    whole: float


def traits(prompt: str, reply: str, finished: bool) -> Traits:
    """Read the traits of `reply` to `prompt`; `finished` says that the model stopped by itself."""
    words = [word.lower().replace("’", "'") for word in _WORD.findall(reply)]
    if not words:
        return Traits(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return Traits(
        on_topic=_on_topic(prompt, words),
        concrete=_concrete(reply, words),
        plain=_plain(words),
        direct=_direct(reply),
        fresh=_fresh(words),
        whole=_whole(reply, finished),
    )


def utility(prompt: str, reply: str, finished: bool, weights: Mapping[str, float] = WEIGHTS) -> float:
    """How much people like `reply` to `prompt`; without noise, in the units of `weights`. An empty reply
    gives 0."""
    read = asdict(traits(prompt, reply, finished))
    return sum(weight * read[name] for name, weight in weights.items())


def stem(word: str) -> str:
    """A crude stem: lower case, no plural or verb ending, at most six letters."""
    return re.sub(r"(?:'s|ing|ed|es|s)$", "", word.lower())[:6]


def _content(words: list[str]) -> list[str]:
    return [stem(word) for word in words if word not in STOP and len(word) > 2]


def _on_topic(prompt: str, words: list[str]) -> float:
    """Share of the prompt's content words that the reply takes up; 60 % of them is all that anyone asks
    for."""
    asked = set(_content([word.lower() for word in _WORD.findall(prompt)]))
    if not asked:
        return 1.0
    return min(1.0, len(asked & set(_content(words))) / len(asked) / 0.6)


def _concrete(reply: str, words: list[str]) -> float:
    """Different numbers, list items, examples and words to the reader per 20 words (at least 12), saturating."""
    numbers = len({word for word in words if word[0].isdigit()})
    marks = (
        numbers
        + len(_ITEM.findall(reply))
        + 2 * len(_EXAMPLE.findall(reply))
        + 0.5 * len(_ACTION.findall(reply))
    )
    return 1.0 - math.exp(-marks / (max(len(words), 12) / 20))


def _plain(words: list[str]) -> float:
    """1 when no word is long (9 letters or more) or vague, 0 when two in five are. Numbers are no words."""
    letters = [word for word in words if not word[0].isdigit()]
    if not letters:
        return 0.0
    puffed = sum((len(word) >= 9) or (word in VAGUE) for word in letters) / len(letters)
    return max(0.0, 1.0 - puffed / 0.4)


def _direct(reply: str) -> float:
    """1 when the reply begins with its matter; 0.5 less for filler in the first 12 words, and for talk of
    itself."""
    opening = " ".join(reply.replace("’", "'").split()[:12])
    return 1.0 - 0.5 * bool(_FILLER.search(opening)) - 0.5 * bool(_SELF.search(reply))


def _fresh(words: list[str]) -> float:
    """1 when no content word repeats within a window of 30, 0 when half of them do."""
    content = _content(words)
    if not content:
        return 0.0
    repeats = sum(word in content[max(0, at - 15) : at] for at, word in enumerate(content)) / len(content)
    return max(0.0, 1.0 - 2.0 * repeats)


def _whole(reply: str, finished: bool) -> float:
    """Share of the reply's characters that lie inside sentences that end."""
    text = reply.strip()
    if finished or not text:
        return float(finished)
    ends = [end.end() for end in _END.finditer(text) if not _ITEM_MARK.search(text[: end.end()])]
    return (ends[-1] / len(text)) if ends else 0.0

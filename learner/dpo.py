"""Policy updates: DPO, KTO and SFT on the policy's adapter, from where it stands, against base."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic

import torch
from torch import Tensor

from feedback.examples import Example, Preference
from heliotrope.config import Config
from heliotrope.errors import FailedPrecondition, InvalidInput, ModelError
from learner import heap
from learner.backbone import Backbone, States
from learner.examples import rows_of, teaches
from learner.lessons import Lesson, lessons_of
from learner.losses import Both, DpoForm, ThumbCounts, Variant, dpo
from learner.metrics import Measured, PairMetrics, Progress, merge, summary
from learner.mixture import Mixture, Terms, batch_loss, drift, untaught
from learner.prepared import PreparedStore, log_ratios
from learner.rows import Batch, Row
from learner.steps import Taken, Work, cut, schedule, step
from learner.steps import optimiser as adamw

__all__ = [
    "ADAPTER",
    "Diverged",
    "DpoSettings",
    "PairMetrics",
    "PolicyUpdate",
    "Progress",
    "evaluate",
    "train_policy",
]

ADAPTER = "policy"
EXPLOSION = 20.0
"""A step's loss of so many times what it would cost base, or as far below 0, is no training."""


@dataclass(frozen=True)
class DpoSettings:
    """How one version is trained: the configuration's `[dpo]` and `[mixture]`, and the seed."""

    beta: float = 0.1
    learning_rate: float = 1.5e-3
    epochs: int = 1
    batch_pairs: int = 8
    token_budget: int = 2048
    grad_clip: float = 1.0
    max_tokens: int = 1024
    variant: Variant = "sigmoid"
    label_smoothing: float = 0.0
    length_alpha: float = 1.0
    sft_weight: float = 0.0
    mixture: Mixture = field(default_factory=Mixture)
    seed: int = 1

    @classmethod
    def of(cls, config: Config, flips: float = 0.0) -> DpoSettings:
        """As configured. flips: what `dpo.label_smoothing = "agreement"` stands for."""
        values = config.dpo.model_dump()
        if values["label_smoothing"] == "agreement":
            values["label_smoothing"] = flips
        mixture = Mixture(**config.mixture.model_dump())
        return cls(**values, mixture=mixture, seed=config.learner.seed)

    @property
    def form(self) -> DpoForm:
        """The loss on pairs."""
        return DpoForm(self.beta, self.variant, self.label_smoothing)


@dataclass(frozen=True)
class PolicyUpdate:
    """What an update did."""

    first: PairMetrics
    """Over the first epoch, each pair before it was learned from."""
    last: PairMetrics
    """Over the last epoch."""
    pairs: int
    steps: int
    seconds: float
    example_ids: tuple[str, ...]
    """What was trained on, in the order of the first epoch."""
    refused: dict[str, str]
    """Examples that could not be used, with the reason."""
    drift: float = 0.0
    """See `learner.staleness.Staleness`."""
    effective: float = 1.0
    """See `learner.staleness.Staleness`."""
    age: float = 0.0
    """Mean age of the examples by their shares, seconds."""
    history: tuple[Progress, ...] = ()
    """Every step."""


class Diverged(ModelError):
    """A loss or gradient became infinite, NaN or huge: the update was undone. The message names the examples of the step."""

    def __init__(self, what: str, ids: Sequence[str]) -> None:
        super().__init__(f"update stopped and undone: {what} in examples {', '.join(ids)}")
        self.ids = tuple(ids)


def train_policy(
    backbone: Backbone,
    preferences: Sequence[Example],
    shares: Sequence[float],
    settings: DpoSettings,
    store: PreparedStore,
    progress: Callable[[Progress], None] = lambda _: None,
) -> PolicyUpdate:
    """Train the "policy" adapter from its present weights on what decides and is not held out.

    `preferences` may hold thumbs and demonstrations as well (`feedback.teachings`), in any mixture: a step takes
    them as they come. `shares` are the weights of `learner.examples.weights`. The optimiser is fresh, the reference is
    base. The same weights, examples, settings, thread count and processor give the same adapter, bit by bit.
    Raises Diverged, with the weights as they were before and the step's rows prepared anew next time, when a loss or
    gradient is not finite or explodes, FailedPrecondition when no example can be used, and InvalidInput when two have one id, by
    which what is prepared is found.
    """
    began = monotonic()
    (id, times), *_ = Counter(e.id for e in preferences).most_common(1) or [("", 0)]
    if times > 1:
        raise InvalidInput(f"{times} examples have the id {id}: give each its own")
    weight_of = {
        e.id: share for e, share in zip(preferences, shares, strict=True) if share > 0 and teaches(e)
    }
    lessons, refused = lessons_of(preferences, weight_of, settings.max_tokens)
    if not lessons:
        raise FailedPrecondition(
            f"no usable preference among {len(preferences)}: collect comparisons that decide"
        )
    store.prepare(backbone, [lesson.row for lesson in lessons])
    before = backbone.state(ADAPTER)
    try:
        order, history = _run(backbone, lessons, settings, store, progress)
    except Diverged as error:
        backbone.load_state(ADAPTER, before)
        store.forget(error.ids)
        raise
    steps = len(history) // settings.epochs
    first, last = (merge([at.metrics for at in part]) for part in (history[:steps], history[-steps:]))
    done = (len(lessons), len(history), monotonic() - began)
    return PolicyUpdate(first, last, *done, order, refused, history=tuple(history))


def evaluate(
    backbone: Backbone,
    preferences: Sequence[Preference],
    settings: DpoSettings,
    store: PreparedStore,
) -> PairMetrics | None:
    """The same measures, without training, every decided preference counting alike; None if there is none."""
    rows, _ = rows_of([p for p in preferences if not p.tie], settings.max_tokens)
    if not rows:
        return None
    ratios = torch.stack(list(log_ratios(backbone, rows, store, ADAPTER, settings.token_budget).values()))
    base = torch.zeros(len(rows))
    loss = dpo(Both(ratios[:, 0], ratios[:, 1]), Both(base, base), DpoForm(settings.beta))
    return summary([Measured(torch.ones(len(rows)), loss.losses, loss.margins, -ratios.mean(1))])


def _run(
    backbone: Backbone,
    lessons: Sequence[Lesson],
    settings: DpoSettings,
    store: PreparedStore,
    progress: Callable[[Progress], None],
) -> tuple[tuple[str, ...], list[Progress]]:
    optimiser = adamw(list(backbone.parameters(ADAPTER).values()), settings.learning_rate)
    plan = list(_plan([lesson.row for lesson in lessons], settings))
    course = _Course(backbone, lessons, settings, store)
    history: list[Progress] = []
    for number, rows in enumerate(plan, 1):
        began = monotonic()
        rate = settings.learning_rate * schedule(number, len(plan))
        works, workers = course.works(rows)
        heap.give_back()  # what making the works left, before the step takes as much again
        with backbone.worn(ADAPTER):
            taken = step(optimiser, works, workers, rate, settings.grad_clip)
        heap.give_back()
        highest = EXPLOSION * course.untaught(rows)
        if not (taken.finite and abs(taken.loss) <= highest):
            raise Diverged(_gone(taken, number, highest), [row.id for row in rows])
        speed = len(rows) / (monotonic() - began)
        history.append(Progress(number, len(plan), summary(taken.figures), speed, taken.grad_norm))
        progress(history[-1])
    first_epoch = plan[: len(plan) // settings.epochs]
    return tuple(row.id for rows in first_epoch for row in rows), history


class _Course:
    """What every step of one update shares."""

    def __init__(
        self, backbone: Backbone, lessons: Sequence[Lesson], settings: DpoSettings, store: PreparedStore
    ) -> None:
        self._backbone, self._settings, self._store = backbone, settings, store
        self._lesson_of = {lesson.row.id: lesson for lesson in lessons}
        self._mean_share = sum(lesson.share for lesson in lessons) / len(lessons)
        balance = _counts(lessons).weights()
        self._terms = Terms(
            settings.form, settings.length_alpha, torch.zeros(()), balance, settings.sft_weight
        )

    def terms(self, rows: Sequence[Row]) -> Terms:
        """What a step's losses depend on, of the weights as they are before it."""
        settings, those = self._settings, [self._lesson_of[row.id] for row in rows]
        z0 = drift(self._backbone, those, ADAPTER, settings.token_budget)
        return replace(self._terms, z0=z0)

    def works(self, rows: Sequence[Row]) -> tuple[list[Work[Measured]], int]:
        """A step's work, and how much of it goes side by side. What layers below the adapter give is made here, by base."""
        terms = self.terms(rows)
        batches, workers = cut(rows, self._settings.token_budget, self._backbone.device)
        states = [self._store.states(self._backbone, batch) for batch in batches]
        each = zip(batches, states, strict=True)
        return [partial(self.loss, terms, len(rows), batch, entering) for batch, entering in each], workers

    def loss(self, terms: Terms, rows: int, batch: Batch, states: States) -> tuple[Tensor, Measured]:
        """A batch's part of the loss of a step of so many rows, and its figures."""
        those = [self._lesson_of[id] for id in batch.ids]
        weights = self._weights(those, rows)
        logprobs = self._backbone.logprobs(batch, ADAPTER, states)
        loss, measured = batch_loss(logprobs, batch, those, weights, terms, self._store)
        _check(measured.losses.isfinite(), batch.ids)
        return loss, measured

    def untaught(self, rows: Sequence[Row]) -> float:
        """What a step costs a policy that is base, nats."""
        those = [self._lesson_of[row.id] for row in rows]
        return untaught(those, self._weights(those, len(rows)), self._terms)

    def _weights(self, lessons: Sequence[Lesson], rows: int) -> Tensor:
        """Of lessons in a step of so many rows."""
        factors = [self._settings.mixture.of(lesson.kind) for lesson in lessons]
        each = zip(factors, lessons, strict=True)
        return torch.tensor([f * lesson.share / self._mean_share / rows for f, lesson in each])


def _counts(lessons: Sequence[Lesson]) -> ThumbCounts:
    """Thumbs each way, as they weigh."""
    thumbs = [lesson for lesson in lessons if lesson.kind == "thumb"]
    return ThumbCounts(
        sum(lesson.share for lesson in thumbs if lesson.up),
        sum(lesson.share for lesson in thumbs if not lesson.up),
    )


def _plan(rows: Sequence[Row], settings: DpoSettings) -> Iterator[list[Row]]:
    """The rows of each step: every epoch in a new order, cut into steps of nearly equal size."""
    rng = random.Random(settings.seed)
    count = max(1, round(len(rows) / settings.batch_pairs))
    for _ in range(settings.epochs):
        order = sorted(rows, key=lambda row: row.id)
        rng.shuffle(order)
        for part in range(count):
            yield order[part::count]


def _check(finite: Tensor, ids: Sequence[str]) -> None:
    bad = [id for id, fine in zip(ids, finite.tolist(), strict=True) if not fine]
    if bad:
        raise Diverged("loss not finite", bad)


def _gone(taken: Taken, number: int, highest: float) -> str:
    if not taken.finite:
        return "gradient not finite"
    side = "above" if taken.loss > 0 else "below -"
    return f"loss {taken.loss:.3g} in step {number}, {side}{highest:.3g}, {EXPLOSION:g} times what base would have (lower dpo.learning_rate),"

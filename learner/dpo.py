"""Policy updates: DPO on the policy's adapter, from where it stands, against base."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic

import torch
from torch import Tensor

from heliotrope.errors import FailedPrecondition, ModelError
from learner.backbone import Backbone
from learner.examples import Preference, rows_of
from learner.losses import Both, DpoForm, DpoLoss, Variant, dpo
from learner.prepared import PreparedStore, log_ratios, sum_by_response
from learner.rows import Batch, Row, batches

ADAPTER = "policy"


@dataclass(frozen=True)
class DpoSettings:
    """How one version is trained; the fields of the configuration's `[dpo]`, and the seed."""

    beta: float = 0.1
    learning_rate: float = 2e-4
    epochs: int = 1
    batch_pairs: int = 16
    token_budget: int = 2048
    grad_clip: float = 1.0
    max_tokens: int = 1024
    variant: Variant = "sigmoid"
    label_smoothing: float = 0.0
    seed: int = 1

    @property
    def form(self) -> DpoForm:
        """The loss on pairs."""
        return DpoForm(self.beta, self.variant, self.label_smoothing)


@dataclass(frozen=True)
class PairMetrics:
    """Means over pairs, each weighted as in training."""

    loss: float
    """Nats."""
    accuracy: float
    """Share of pairs whose chosen response has the higher implicit reward; an exact tie counts half."""
    margin: float
    """Implicit reward of chosen minus rejected, nats."""
    kl: float
    """Mean log(reference / policy) of the responses, nats a response: where base wrote them, an unbiased
    estimate of KL(base || policy)."""


@dataclass(frozen=True)
class Progress:
    """After one optimiser step."""

    step: int
    steps: int
    metrics: PairMetrics
    """Of the step's pairs, before the step learned from them."""
    pairs_per_second: float


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


class NotFinite(ModelError):
    """A loss or gradient became infinite or NaN: the update was undone. The message names the examples."""


def train_policy(
    backbone: Backbone,
    preferences: Sequence[Preference],
    shares: Sequence[float],
    settings: DpoSettings,
    store: PreparedStore,
    progress: Callable[[Progress], None] = lambda _: None,
) -> PolicyUpdate:
    """Train the "policy" adapter from its present weights on decided, not held-out preferences.

    `shares` are the weights of `learner.examples.weights`. The optimiser is fresh, the reference is base.
    The same weights, preferences, settings, thread count and processor give the same adapter, bit by bit.
    Raises NotFinite, with the weights as they were before, when a loss or gradient is not finite, and
    FailedPrecondition when no preference can be used.
    """
    began = monotonic()
    weight_of = {
        p.id: share
        for p, share in zip(preferences, shares, strict=True)
        if share > 0 and not (p.tie or p.held_out)
    }
    rows, refused = rows_of([p for p in preferences if p.id in weight_of], settings.max_tokens)
    if not rows:
        raise FailedPrecondition(
            f"no usable preference among {len(preferences)}: collect comparisons that decide"
        )
    store.prepare(backbone, rows, settings.token_budget)
    before = backbone.state(ADAPTER)
    try:
        order, history = _run(backbone, rows, weight_of, settings, store, progress)
    except NotFinite:
        backbone.load_state(ADAPTER, before)
        raise
    steps = len(history) // settings.epochs
    first, last = _merge(history[:steps]), _merge(history[-steps:])
    return PolicyUpdate(first, last, len(rows), len(history), monotonic() - began, order, refused)


def evaluate(
    backbone: Backbone,
    preferences: Sequence[Preference],
    settings: DpoSettings,
    store: PreparedStore,
    adapter: str | None = ADAPTER,
) -> PairMetrics | None:
    """The same measures, without training, every decided preference counting alike; None if there is none.

    With `adapter` None, base against itself: accuracy 0.5 and loss log 2.
    """
    rows, _ = rows_of([p for p in preferences if not p.tie], settings.max_tokens)
    if not rows:
        return None
    ratios = torch.stack(list(log_ratios(backbone, rows, store, adapter, settings.token_budget).values()))
    base = torch.zeros(len(rows))
    loss = dpo(Both(ratios[:, 0], ratios[:, 1]), Both(base, base), DpoForm(settings.beta))
    return _summary([(torch.ones(len(rows)), loss, -ratios.mean(1))])


def _run(
    backbone: Backbone,
    rows: Sequence[Row],
    weight_of: dict[str, float],
    settings: DpoSettings,
    store: PreparedStore,
    progress: Callable[[Progress], None],
) -> tuple[tuple[str, ...], list[PairMetrics]]:
    parameters = list(backbone.parameters(ADAPTER).values())
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    plan = list(_plan(rows, settings))
    mean_weight = sum(weight_of[row.id] for row in rows) / len(rows)
    history: list[PairMetrics] = []
    for number, step in enumerate(plan, 1):
        began = monotonic()
        parts = []
        for batch in batches(step, settings.token_budget):
            weights = torch.tensor([weight_of[id] / mean_weight / len(step) for id in batch.ids])
            loss, kl = _loss(backbone, batch, weights, settings, store, ADAPTER)
            _check(loss.losses, batch.ids)
            loss.loss.backward()
            parts.append((weights, loss, kl))
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.grad_clip)
        _check(norm.expand(len(step)), [row.id for row in step])
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _schedule(number, len(plan))
        optimiser.step()
        optimiser.zero_grad()
        history.append(_summary(parts))
        progress(Progress(number, len(plan), history[-1], len(step) / (monotonic() - began)))
    first_epoch = plan[: len(plan) // settings.epochs]
    return tuple(row.id for step in first_epoch for row in step), history


def _loss(
    backbone: Backbone,
    batch: Batch,
    weights: Tensor,
    settings: DpoSettings,
    store: PreparedStore,
    adapter: str,
) -> tuple[DpoLoss, Tensor]:
    """The batch's loss, and log(reference / policy) averaged over each pair's two responses, nats."""
    logprobs = backbone.logprobs(batch, adapter, store.states(backbone, batch))
    policy = sum_by_response(logprobs, batch).view(-1, 2)
    reference = store.reference(batch).view(-1, 2)
    lengths = torch.bincount(batch.owners).view(-1, 2)
    loss = dpo(
        Both(policy[:, 0], policy[:, 1]),
        Both(reference[:, 0], reference[:, 1]),
        settings.form,
        weights,
        Both(lengths[:, 0], lengths[:, 1]),
    )
    return loss, (reference - policy.detach()).mean(1)


def _plan(rows: Sequence[Row], settings: DpoSettings) -> Iterator[list[Row]]:
    """The rows of each step: every epoch in a new order, cut into steps of nearly equal size."""
    rng = random.Random(settings.seed)
    count = max(1, round(len(rows) / settings.batch_pairs))
    for _ in range(settings.epochs):
        order = sorted(rows, key=lambda row: row.id)
        rng.shuffle(order)
        for step in range(count):
            yield order[step::count]


def _schedule(step: int, steps: int) -> float:
    """Factor of the learning rate: up over the first tenth of the steps, then down to a tenth, linearly."""
    warm = max(1, steps // 10)
    return step / warm if step <= warm else 1 - 0.9 * (step - warm) / max(1, steps - warm)


def _check(values: Tensor, ids: Sequence[str]) -> None:
    bad = [id for id, fine in zip(ids, values.isfinite().tolist(), strict=True) if not fine]
    if bad:
        raise NotFinite(
            f"update stopped and undone: loss or gradient not finite in examples {', '.join(bad)}"
        )


def _summary(parts: Sequence[tuple[Tensor, DpoLoss, Tensor]]) -> PairMetrics:
    weights = torch.cat([part[0] for part in parts])
    margins = torch.cat([part[1].margins for part in parts])
    right = torch.where(margins == 0, 0.5, (margins > 0).float())
    columns = torch.cat([part[1].losses for part in parts]), right, margins, torch.cat([p[2] for p in parts])
    total = weights.sum()
    return PairMetrics(*(float((weights * column).sum() / total) for column in columns))


def _merge(history: Sequence[PairMetrics]) -> PairMetrics:
    def mean(name: str) -> float:
        return sum(getattr(item, name) for item in history) / len(history)

    return PairMetrics(mean("loss"), mean("accuracy"), mean("margin"), mean("kl"))

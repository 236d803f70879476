"""The loss of one batch that may hold pairs, thumbs and demonstrations, on one run of the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from learner.backbone import Backbone, PerToken, States
from learner.lessons import Kind, Lesson
from learner.losses import Both, DpoForm, desensitised, dpo, kto, reference_point, sft
from learner.metrics import Measured, PerLesson
from learner.prepared import PreparedStore, sum_by_response
from learner.rows import Batch
from learner.steps import cut
from learner.workers import side_by_side


@dataclass(frozen=True)
class Mixture:
    """How much one example of each kind weighs beside one of the others; docs/maths.md says what their pulls are."""

    pairs: float = 1.0
    thumbs: float = 1.0
    demonstrations: float = 1.0

    def of(self, kind: Kind) -> float:
        """The weight of a kind."""
        return {"pair": self.pairs, "thumb": self.thumbs, "demonstration": self.demonstrations}[kind]


@dataclass(frozen=True)
class Terms:
    """What the losses of a step depend on besides the batch. z0, balance: of KTO. sft_weight: of a pair's chosen response."""

    form: DpoForm
    length_alpha: float
    z0: Tensor
    balance: tuple[float, float]
    sft_weight: float = 0.0


@torch.no_grad()
def drift(backbone: Backbone, lessons: Sequence[Lesson], adapter: str, token_budget: int) -> Tensor:
    """KTO's reference point of a step: how much gladlier than base the policy says what belongs to other prompts.

    Nobody asks for these ratios again, so base and policy read them in one company, where what bfloat16 rounds is rounded alike.
    """
    rows = [lesson.mixed for lesson in lessons if lesson.mixed]
    if not rows:
        return torch.zeros(())
    batches, workers = cut(rows, token_budget, backbone.device)
    with backbone.worn(None):
        based = list(side_by_side(partial(_by_base, backbone), batches, workers))
    with backbone.worn(adapter):
        tasks = list(zip(batches, based, strict=True))
        return reference_point(
            torch.cat(list(side_by_side(partial(_ratios, backbone, adapter), tasks, workers)))
        )


Based = tuple[dict[int, States], PerToken]
"""States that enter each adapter, and log-probabilities under base."""


@torch.no_grad()
def _by_base(backbone: Backbone, batch: Batch) -> Based:
    entering, outputs = backbone.base(batch)
    return entering, backbone.token_logprobs(outputs, batch)


@torch.no_grad()
def _ratios(backbone: Backbone, adapter: str, task: tuple[Batch, Based]) -> Tensor:
    batch, (entering, base) = task
    policy = backbone.logprobs(batch, adapter, entering[backbone.first_layer(adapter)])
    return sum_by_response(policy - base, batch)


def batch_loss(
    logprobs: PerToken,
    batch: Batch,
    lessons: Sequence[Lesson],
    weights: PerLesson,
    terms: Terms,
    store: PreparedStore,
) -> tuple[Tensor, Measured]:
    """The batch's share of the step's loss, to go backward from, and each lesson's figures.

    lessons: of the batch's rows, in its order; weights: their shares of the step.
    """
    seen = _Seen(logprobs, batch, lessons, weights, store)
    parts = [part(seen, terms) for part in (_pairs, _thumbs, _demonstrations)]
    loss = torch.stack([part[0] for part in parts]).sum()
    losses, margins = (torch.full((len(lessons),), torch.nan) for _ in range(2))
    for _, chosen, its_losses, its_margins in parts:
        losses[chosen], margins[chosen] = its_losses, its_margins
    return loss, Measured(weights, losses, margins, seen.kl())


def untaught(lessons: Sequence[Lesson], weights: PerLesson, terms: Terms) -> float:
    """What these cost a policy that is base, nats: log 2 a pair by a logistic loss, half its kind's weight a thumb. A demonstration
    counts as 1 nat a token, of the size of what a base says of people's words."""
    even = Both(*[weights.new_zeros(1)] * 2)
    pair = dpo(even, even, terms.form).losses.item() + terms.sft_weight
    up, down = terms.balance

    def cost(lesson: Lesson) -> float:
        return {"pair": pair, "thumb": (up if lesson.up else down) / 2, "demonstration": 1.0}[lesson.kind]

    return float(weights @ weights.new_tensor([cost(lesson) for lesson in lessons]))


Part = tuple[Tensor, Tensor, Tensor, Tensor]
"""Loss; places of the lessons that it is of; their losses; their margins."""


class _Seen:
    """A batch's log-probabilities, summed by response, with the way from lessons to responses."""

    def __init__(
        self,
        logprobs: PerToken,
        batch: Batch,
        lessons: Sequence[Lesson],
        weights: PerLesson,
        store: PreparedStore,
    ) -> None:
        self.logprobs, self.base, self.batch = logprobs, store.token_reference(batch), batch
        self.policy, self.reference = sum_by_response(logprobs, batch), store.reference(batch)
        self.lengths = torch.bincount(batch.owners, minlength=batch.count)
        self.lessons, self.weights = lessons, weights
        counts = torch.tensor([len(lesson.row.responses) for lesson in lessons])
        self.first = counts.cumsum(0) - counts
        self._row = torch.repeat_interleave(torch.arange(len(lessons)), counts)
        self._counts = counts

    def places(self, kind: Kind) -> Tensor:
        """Of the lessons of a kind."""
        return torch.tensor(
            [i for i, lesson in enumerate(self.lessons) if lesson.kind == kind], dtype=torch.long
        )

    def tokens(self, places: Tensor) -> Tensor:
        """Which tokens belong to these lessons."""
        return torch.isin(self._row[self.batch.owners], places)

    def kl(self) -> PerLesson:
        """log(reference / policy) averaged over each lesson's responses, nats."""
        drift = self.reference - self.policy.detach()
        return drift.new_zeros(len(self.lessons)).index_add(0, self._row, drift) / self._counts


def _pairs(seen: _Seen, terms: Terms) -> Part:
    """DPO, and with `sft_weight` a share of SFT on what was chosen: sum_i w_i (dpo_i - sft_weight * log pi(chosen_i) / |chosen_i|).

    Pang et al. 2024, arXiv 2404.19733, eq. 1 (the NLL term). The figures of each pair are those of DPO alone.
    """
    places = seen.places("pair")
    first = seen.first[places]
    both = torch.stack([first, first + 1], 1)
    lengths = seen.lengths[both]
    policy, reference = seen.policy[both], seen.reference[both]
    if terms.length_alpha != 1:
        mine = seen.tokens(places)
        policy, reference = (
            desensitised(values[mine], lengths, terms.length_alpha) for values in (seen.logprobs, seen.base)
        )
    out = dpo(_both(policy), _both(reference), terms.form, seen.weights[places], _both(lengths))
    chosen = sft(seen.policy[first], lengths[:, 0].float(), seen.weights[places])
    return out.loss + terms.sft_weight * chosen.loss, places, out.losses, out.margins


def _thumbs(seen: _Seen, terms: Terms) -> Part:
    places = seen.places("thumb")
    first = seen.first[places]
    ups = torch.tensor([lesson.up for lesson in seen.lessons if lesson.kind == "thumb"], dtype=torch.bool)
    ratios = seen.policy[first] - seen.reference[first]
    out = kto(ratios, ups, terms.form.beta, terms.z0, terms.balance, seen.weights[places])
    return out.loss, places, out.losses, out.margins


def _demonstrations(seen: _Seen, terms: Terms) -> Part:
    places = seen.places("demonstration")
    first = seen.first[places]
    out = sft(seen.policy[first], seen.lengths[first].float(), seen.weights[places])
    return out.loss, places, out.losses, torch.full((len(places),), torch.nan)


def _both(columns: Tensor) -> Both:
    """Chosen and rejected, side by side as [pairs, 2]."""
    return Both(columns[:, 0], columns[:, 1])

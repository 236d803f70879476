"""One step of the reward model: what it holds, what the model says before it, and what became of it."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from math import exp, isfinite, log, log1p

import torch
from torch import Tensor

from feedback.examples import Preference
from heliotrope.config import Config
from learner.backbone import Backbone, States
from learner.examples import weights
from learner.prepared import PreparedStore
from learner.reward_loss import Judgement, RewardForm, Shared, generosity, judged_loss
from learner.reward_net import REWARD, RewardNet
from learner.rows import Batch, Row
from learner.steps import Taken, Work, cut, step

logger = logging.getLogger("heliotrope.learner")

EXPLOSION = 20.0
"""So many times the loss of a model without an opinion is no learning."""
WARM_STEPS = 4
"""Steps over which the step size grows, while AdamW learns the gradients' scale."""

Known = tuple[Judgement, Row]
"""What a step can hold."""


class Outcome(Enum):
    """What became of a step; what is said of one that failed."""

    LEARNED = ""
    NOT_FINITE = "not finite"
    EXPLODED = "of {:.3g} nats, and all since its last state"


@dataclass(frozen=True)
class RewardSettings:
    """How it is trained."""

    learning_rate: float = 5e-4
    """Step of AdamW on the adapter; the head's is `HEAD_STEP` times it."""
    batch_pairs: int = 8
    """New judgements of one step."""
    replay: float = 0.5
    """Old judgements beside each new one."""
    beta: float = 1.0
    """Inverse temperature of comparisons."""
    margin: float = 0.0
    """Reward difference asked of the strongest preference (strength 1); proportional below."""
    centring: float = 0.01
    """Pull of rewards to 0, which comparisons leave free and thumbs need."""
    half_life: float = 30 * 86400.0
    """Age at which a judgement weighs half, seconds."""
    votes_per_person: float = 20
    person_share: float = 0.01
    max_tokens: int = 1024
    token_budget: int = 2048
    seed: int = 1

    @classmethod
    def of(cls, config: Config) -> RewardSettings:
        """As configured."""
        learner = config.learner
        return cls(
            half_life=learner.half_life_days * 86400,
            votes_per_person=learner.votes_per_person,
            person_share=learner.person_share,
            max_tokens=config.dpo.max_tokens,
            token_budget=config.dpo.token_budget,
            seed=learner.seed,
            **config.reward.model_dump(exclude={"layers", "depth"}),
        )


@dataclass(frozen=True)
class Prediction:
    """What the model said of a preference before it learned from it; the order of predictions is the proof."""

    id: str
    margin: float
    """Predicted reward of chosen minus rejected; above 0 is right, 0 (an untaught model) counts half."""
    loss: float
    """-log of the probability it gave to what the person chose, nats."""
    seen: int
    """Judgements that it had at hand to learn from."""

    @property
    def right(self) -> float:
        """1 right, 0 wrong, 0.5 no opinion."""
        return 0.5 if self.margin == 0 else float(self.margin > 0)


class RewardSteps:
    """Steps of one net on judgements, by the settings."""

    def __init__(
        self, backbone: Backbone, store: PreparedStore, net: RewardNet, settings: RewardSettings
    ) -> None:
        self._backbone = backbone
        self._store = store
        self._net = net
        self._settings = settings

    def take(self, new: Sequence[Known], known: Sequence[Known]) -> tuple[list[Prediction], Outcome]:
        """One step on the new ones and some that are known, each by its weight. Returns what was predicted of the new ones.

        What the step's forward pass says of the new ones is the prediction: nothing has moved by then. Ages count from
        the step's newest, not from the clock: learned again after a kill, it comes to the same bits.
        """
        s = self._settings
        old = sorted(known, key=lambda item: item[0].id)
        rng = random.Random(f"{s.seed}/{len(old)}/{new[0][0].id}")
        examples = [*new, *rng.sample(old, min(len(old), round(s.replay * len(new))))]
        now = max(e.time for e, _ in examples)
        shares = weights([e for e, _ in examples], now, s.half_life, s.votes_per_person, s.person_share)
        whole = sum(shares) or 1.0
        held = {e.id: (e, share / whole) for (e, _), share in zip(examples, shares, strict=True)}
        form = RewardForm(s.margin, s.centring, generosity(e for e, _ in (*old, *new)), s.beta)
        works, workers = self._works([row for _, row in examples], held, form)
        rate = s.learning_rate * min(1.0, (self._net.steps + 1) / WARM_STEPS)
        with self._backbone.worn(REWARD):
            taken = step(self._net.adam, works, workers, rate)
        said = {id: margin for part in taken.figures for id, margin in part.margins.items()}
        outcome = _outcome(taken, max(sum(part.untaught for part in taken.figures), log(2)))
        if outcome is Outcome.NOT_FINITE:
            self._store.forget(held)
        if outcome is not Outcome.LEARNED:
            names = ", ".join(held)
            logger.warning(
                "the reward model left out a step, %s: %s", outcome.value.format(taken.loss), names
            )
        asked = [e.id for e, _ in new if isinstance(e, Preference) and not e.tie]
        margins = {id: said[id] for id in asked if isfinite(said[id])}
        made = [Prediction(id, m, _surprise(s.beta * m), len(old)) for id, m in margins.items()]
        return made, outcome

    def _works(
        self, rows: Sequence[Row], held: Mapping[str, Shared], form: RewardForm
    ) -> tuple[list[Work[_Said]], int]:
        """A step's work, and how much of it goes side by side. What layers below the adapter give is made here, by base."""

        def work(batch: Batch, states: States) -> tuple[Tensor, _Said]:
            rewards, those = self._net.rewards(batch, states), [held[id] for id in batch.ids]
            loss, margins = judged_loss(rewards, those, form)
            untaught, _ = judged_loss(torch.zeros_like(rewards), those, form)
            return loss, _Said(margins, untaught.item())

        batches, workers = cut(rows, self._settings.token_budget, self._backbone.device)
        states = [self._store.states(self._backbone, batch, REWARD) for batch in batches]
        return [partial(work, *task) for task in zip(batches, states, strict=True)], workers


@dataclass(frozen=True)
class _Said:
    """Of a batch: each pair's margin by id, and the loss that no opinion has."""

    margins: dict[str, float]
    untaught: float


def _outcome(taken: Taken, untaught: float) -> Outcome:
    if not taken.finite:
        return Outcome.NOT_FINITE
    return Outcome.EXPLODED if taken.loss > EXPLOSION * untaught else Outcome.LEARNED


def _surprise(margin: float) -> float:
    """-log of the logistic function, nats, without overflow."""
    return log1p(exp(-abs(margin))) + max(-margin, 0.0)

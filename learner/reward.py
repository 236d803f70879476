"""The reward model: a LoRA adapter of its own on the shared base and a linear head, learning as feedback comes.

Every new preference is predicted first, and learned from after. Each step holds some old ones beside them, drawn at random, so
that what was learned first is not forgotten (replay). docs/experiments.md compares it with words and with TRL's.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from math import exp, isfinite, log, log1p
from pathlib import Path

import torch
from torch import Tensor

from feedback.examples import Preference
from heliotrope.config import Config
from heliotrope.errors import TamperedAdapter
from learner import heap
from learner.backbone import Backbone, States
from learner.examples import rows_of, weights
from learner.prepared import PreparedStore, batchwise, by_row
from learner.reward_loss import Judgement, RewardForm, Shared, generosity, judged_loss
from learner.reward_net import REWARD, RewardNet
from learner.rows import Batch, Row
from learner.steps import Taken, Work, cut, step

logger = logging.getLogger("heliotrope.learner")

REBUILD_SHARE = 0.1
"""Share of what was learned whose withdrawal makes the model start again from what stands."""
EXPLOSION = 20.0
"""So many times the loss of a model without an opinion is no learning."""
WARM_STEPS = 4
"""Steps over which the step size grows, while AdamW learns the gradients' scale."""

Known = tuple[Judgement, Row]


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


class RewardModel:
    """Rewards learned prequentially from comparisons and thumbs. A frozen state and what it had learned from are all that it
    is: one that goes on from them is the same, bit by bit, as one that was never stopped."""

    def __init__(
        self, backbone: Backbone, store: PreparedStore, settings: RewardSettings | None = None
    ) -> None:
        self._backbone = backbone
        self._store = store
        self._settings = settings or RewardSettings()
        self.net = RewardNet(backbone, self._settings.seed, self._settings.learning_rate)
        self._known: dict[str, Known] = {}
        """What may be rehearsed."""
        self._parent = ""
        self._before: frozenset[str] = frozenset()
        """What the parent had learned from."""
        self._since: list[str] = []
        self._withdrawn = 0
        self._left_out: set[str] = set()
        """What a step that failed had: tried again by the next process."""

    @property
    def learned(self) -> frozenset[str]:
        """Ids of all that shaped the weights, also of what stands no longer or has left the window."""
        return self._before.union(self._since)

    def learn(self, judgements: Sequence[Judgement], whole_steps: bool = False) -> list[Prediction]:
        """Predict the new ones, then learn from them. Returns the new predictions.

        Known, held-out and unusable ones are passed over; ties and thumbs are learned from but not predicted. whole_steps:
        leave for later what does not fill a step. A step that is not finite is left out; at one that explodes the model is
        what it was before this call, which has then learned and predicted nothing.
        """
        new, count = self._new(judgements), self._settings.batch_pairs
        new = new[: len(new) // count * count] if whole_steps else new
        if not new:
            return []
        self._store.prepare(self._backbone, [row for _, row in new])
        made: list[Prediction] = []
        before = self.net.state(), self._known.copy(), self._since.copy()
        for start in range(0, len(new), count):
            part = new[start : start + count]
            predictions, taken = self._step(part)
            heap.give_back()
            made += predictions
            if taken is Outcome.LEARNED:
                self._known |= {e.id: (e, row) for e, row in part}
                self._since += [e.id for e, _ in part]
                continue
            self._left_out.update(e.id for e, _ in part)
            if taken is Outcome.EXPLODED:
                self._undo(*before)
                return []
        return made

    def keep(self, standing: Sequence[Judgement], afresh: bool = False) -> None:
        """Rehearse no more what stands no longer: taken back, replaced, or older than all that stands (the window).

        A trained weight cannot be taken back one by one. So once a tenth of what was learned was, or at once when
        `afresh` (somebody was erased), all that stands is learned again from nothing, in the order of before: what is gone
        has then never been there.
        """
        ids = {e.id for e in standing}
        oldest = min((e.time for e in standing), default=float("inf"))
        gone = [e for e, _ in self._known.values() if e.id not in ids]
        for judgement in gone:
            del self._known[judgement.id]
        self._withdrawn += sum(not standing or e.time >= oldest for e in gone)
        if afresh or self._withdrawn > REBUILD_SHARE * (len(self._known) + self._withdrawn):
            again = [e for e, _ in self._known.values()]
            self._forget()
            self.learn(again)

    def score(self, rows: Sequence[Row]) -> dict[str, list[float]]:
        """The reward of every response of every row, by row id. Only differences under one prompt mean anything."""
        self._store.prepare(self._backbone, rows)
        budget = self._settings.token_budget
        said = batchwise(self._backbone, rows, self._store, REWARD, self._scores, budget)
        return {id: scores.tolist() for id, scores in by_row(said)}

    def record(self) -> dict[str, str]:
        """What a version's manifest says of the state that judges it: its digest, the last one that a version has, what it
        learned from since (`feedback.traces` follows this back), and how many withdrawn judgements are still in it."""
        since, withdrawn = " ".join(self._since), str(self._withdrawn)
        return {"digest": self.net.digest(), "parent": self._parent, "learned": since, "withdrawn": withdrawn}

    def published(self, digest: str) -> None:
        """A version has this state, so what comes now is learned since it."""
        self._parent, self._before, self._since = digest, self.learned, []

    def freeze(self, folder: Path) -> str:
        """Keep the present state in `folder` by the digest that this returns."""
        return self.net.freeze(folder)

    def thaw(
        self, folder: Path, digest: str, standing: Sequence[Judgement], learned: Collection[str],
        withdrawn: int = 0,
    ) -> bool:  # fmt: skip
        """Go on from a published state that had learned from `learned`, so many of them `withdrawn`; of what stands, that is
        rehearsed. False, unchanged, when it is not there or is of another shape than [reward] and [lora] now say."""
        try:
            found = self.net.thaw(folder, digest)
        except TamperedAdapter:
            found = False
        if found:
            self._known = {e.id: (e, row) for e, row in self._new(standing) if e.id in learned}
            self._parent, self._before, self._since = digest, frozenset(learned), []
            self._withdrawn = withdrawn
        return found

    def _undo(self, state: Mapping[str, Tensor], known: dict[str, Known], since: list[str]) -> None:
        self.net.load_state(state)
        self._known, self._since = known, since

    def _forget(self) -> None:
        self.net.reset()
        self._known.clear()
        self._parent, self._before, self._since, self._withdrawn = "", frozenset(), [], 0

    def _new(self, judgements: Iterable[Judgement]) -> list[Known]:
        new = [e for e in judgements if not (e.held_out or e.id in self._known or e.id in self._left_out)]
        rows, refused = rows_of(new, self._settings.max_tokens)
        return list(zip([e for e in new if e.id not in refused], rows, strict=True))

    @torch.no_grad()
    def _scores(self, task: tuple[Batch, States]) -> Tensor:
        return self.net.rewards(*task)

    def _works(
        self, rows: Sequence[Row], known: Mapping[str, Shared], form: RewardForm
    ) -> tuple[list[Work[_Said]], int]:
        """A step's work, and how much of it goes side by side. What layers below the adapter give is made here, by base."""

        def work(batch: Batch, states: States) -> tuple[Tensor, _Said]:
            rewards, those = self.net.rewards(batch, states), [known[id] for id in batch.ids]
            loss, margins = judged_loss(rewards, those, form)
            untaught, _ = judged_loss(torch.zeros_like(rewards), those, form)
            return loss, _Said(margins, untaught.item())

        batches, workers = cut(rows, self._settings.token_budget, self._backbone.device)
        states = [self._store.states(self._backbone, batch, REWARD) for batch in batches]
        return [partial(work, *task) for task in zip(batches, states, strict=True)], workers

    def _step(self, new: Sequence[Known]) -> tuple[list[Prediction], Outcome]:
        """One step on the new ones and some old ones, each by its weight.

        What the step's forward pass says of the new ones is the prediction: nothing has moved by then. Ages count from
        the step's newest, not from the clock: learned again after a kill, it comes to the same bits.
        """
        s = self._settings
        old = sorted(self._known.values(), key=lambda item: item[0].id)
        rng = random.Random(f"{s.seed}/{len(old)}/{new[0][0].id}")
        examples = [*new, *rng.sample(old, min(len(old), round(s.replay * len(new))))]
        now = max(e.time for e, _ in examples)
        shares = weights([e for e, _ in examples], now, s.half_life, s.votes_per_person, s.person_share)
        whole = sum(shares) or 1.0
        known = {e.id: (e, share / whole) for (e, _), share in zip(examples, shares, strict=True)}
        form = RewardForm(s.margin, s.centring, generosity(e for e, _ in (*old, *new)), s.beta)
        works, workers = self._works([row for _, row in examples], known, form)
        rate = s.learning_rate * min(1.0, (self.net.steps + 1) / WARM_STEPS)
        with self._backbone.worn(REWARD):
            taken = step(self.net.adam, works, workers, rate)
        said = {id: margin for part in taken.figures for id, margin in part.margins.items()}
        outcome = _outcome(taken, max(sum(part.untaught for part in taken.figures), log(2)))
        if outcome is Outcome.NOT_FINITE:
            self._store.forget(known)
        if outcome is not Outcome.LEARNED:
            names = ", ".join(e.id for e, _ in examples)
            logger.warning(
                "the reward model left out a step, %s: %s", outcome.value.format(taken.loss), names
            )
        asked = [e.id for e, _ in new if isinstance(e, Preference) and not e.tie]
        margins = {id: said[id] for id in asked if isfinite(said[id])}
        made = [Prediction(id, m, _surprise(s.beta * m), len(old)) for id, m in margins.items()]
        return made, outcome


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

"""The reward model: a LoRA adapter of its own on the shared base and a linear head, learning as feedback comes.

Every new preference is predicted first, and learned from after. Each step holds some old ones beside them, drawn at random, so
that what was learned first is not forgotten (replay). docs/experiments.md compares it with words and with TRL's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from heliotrope.errors import TamperedAdapter
from learner import heap
from learner.backbone import Backbone, States
from learner.examples import rows_of
from learner.prepared import PreparedStore, batchwise, by_row
from learner.reward_loss import Judgement
from learner.reward_net import REWARD, RewardNet
from learner.reward_steps import Known, Outcome, Prediction, RewardSettings, RewardSteps
from learner.rows import Batch, Row

REBUILD_SHARE = 0.1
"""Share of what was learned whose withdrawal makes the model start again from what stands."""


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
        self._steps = RewardSteps(backbone, store, self.net, self._settings)
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
            predictions, taken = self._steps.take(part, list(self._known.values()))
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

    def keep(self, standing: Sequence[Judgement], afresh: bool = False) -> list[Prediction] | None:
        """Rehearse no more what stands no longer: taken back, replaced, or older than all that stands (the window).

        A trained weight cannot be taken back one by one. So once a tenth of what was learned was, or at once when
        `afresh` (somebody was erased), all that stands is learned again from nothing, in the order of before: what is gone
        has then never been there.

        Returns the predictions of one that begins from nothing, which are its whole record; None of one that goes on.
        """
        ids = {e.id for e in standing}
        oldest = min((e.time for e in standing), default=float("inf"))
        gone = [e for e, _ in self._known.values() if e.id not in ids]
        for judgement in gone:
            del self._known[judgement.id]
        self._withdrawn += sum(not standing or e.time >= oldest for e in gone)
        much = self._withdrawn > REBUILD_SHARE * (len(self._known) + self._withdrawn)
        if self.learned and not (afresh or much):
            return None
        again = [e for e, _ in self._known.values()]
        self._forget()
        return self.learn(again)

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

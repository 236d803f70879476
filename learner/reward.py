"""The reward model: a linear head on what the frozen base makes of a response, fitted to all preferences.

Base's features of an example exist already (learner/prepared.py: they come with the reference
log-probabilities), so the model costs no pass of its own, and its fit is convex: one best answer, no step
size, no seed, no forgetting. docs/experiments.md compares it with a trained adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from heliotrope.errors import FailedPrecondition
from learner.backbone import Backbone
from learner.examples import Preference, rows_of, weights
from learner.losses import bradley_terry
from learner.prepared import PreparedStore
from learner.rows import Row

Features = Float[Tensor, "rows responses features"]
MIN_SCALE = 1e-3
"""Features that vary less than this over responses are left as they are: they are constants."""


@dataclass(frozen=True)
class RewardSettings:
    """How the head is fitted."""

    ridge: float = 30.0
    """Weight of the squared norm of the head beside the sum over preferences: larger trusts data less."""
    margin: float = 0.0
    """Reward difference asked of the strongest preference (strength 1); proportional below."""
    half_life: float = 30 * 86400.0
    """Age at which a preference weighs half, seconds."""
    votes_per_person: float = 20
    person_share: float = 0.01
    max_tokens: int = 1024


@dataclass(frozen=True)
class Prediction:
    """What the model said of a preference before it learned from it; the order of predictions is the proof."""

    id: str
    margin: float
    """Predicted reward of chosen minus rejected; above 0 is right, 0 (an untaught model) counts half."""
    loss: float
    """-log of the probability it gave to what the person chose, nats."""
    seen: int
    """Preferences that it had learned from."""

    @property
    def right(self) -> float:
        """1 right, 0 wrong, 0.5 no opinion."""
        return 0.5 if self.margin == 0 else float(self.margin > 0)


class RewardModel:
    """Bradley-Terry rewards, learned prequentially: every new preference is predicted, recorded, then learned."""

    def __init__(
        self, backbone: Backbone, store: PreparedStore, settings: RewardSettings | None = None
    ) -> None:
        self._backbone = backbone
        self._store = store
        self._settings = settings or RewardSettings()
        size = 2 * backbone.hidden_size
        self._centre = torch.zeros(size)
        self._head = torch.zeros(size)
        self._learned: dict[str, Preference] = {}
        self.predictions: list[Prediction] = []

    def learn(self, preferences: Sequence[Preference], now: float) -> list[Prediction]:
        """Predict the new ones, record that, then refit to all. `now`: seconds. Returns the new predictions.

        Known, held-out and unusable preferences are passed over; ties are learned from but not predicted.
        """
        new = [p for p in preferences if not p.held_out and p.id not in self._learned]
        rows, refused = rows_of(new, self._settings.max_tokens)
        if not rows:
            return []
        usable = [p for p in new if p.id not in refused]
        made = self._predict(usable, rows)
        self.predictions += made
        self._learned |= {p.id: p for p in usable}
        self._fit(now)
        return made

    def keep(self, standing: Sequence[Preference], now: float) -> None:
        """Forget what stands no longer (taken back, replaced, out of the window) and refit to the rest."""
        gone = self._learned.keys() - {p.id for p in standing}
        for id in gone:
            del self._learned[id]
        if gone and self._learned:
            self._fit(now)
        elif gone:
            self._centre, self._head = torch.zeros_like(self._centre), torch.zeros_like(self._head)

    @property
    def learned(self) -> frozenset[str]:
        """Ids of the preferences that the head is fitted to."""
        return frozenset(self._learned)

    def margins(self, preferences: Sequence[Preference]) -> list[float]:
        """Reward of chosen minus rejected for each, such as held-out ones."""
        rows, refused = rows_of(preferences, self._settings.max_tokens)
        if refused:
            raise FailedPrecondition("; ".join(refused.values()))
        rewards = self.score(rows)
        return [float(rewards[p.id][0] - rewards[p.id][1]) for p in preferences]

    def score(self, rows: Sequence[Row]) -> dict[str, list[float]]:
        """The reward of every response of every row, by row id. Only differences under one prompt mean anything."""
        self._store.prepare(self._backbone, rows)
        return {row.id: ((self._store[row.id].features - self._centre) @ self._head).tolist() for row in rows}

    def accuracy(self, last: int | None = None) -> float | None:
        """Share of the `last` (or all) predictions that were right when they were made; None before the first."""
        recent = self.predictions[-last:] if last else self.predictions
        return sum(p.right for p in recent) / len(recent) if recent else None

    def save(self, path: Path) -> None:
        """The head as one safetensors file; predictions belong to the learner's own file."""
        save_file({"centre": self._centre, "head": self._head}, path)

    def digest(self) -> str:
        """sha256, in hexadecimal, of what `save` would write: names the reward model that judged a version."""
        return sha256(save({"centre": self._centre, "head": self._head})).hexdigest()

    def load(self, path: Path) -> None:
        """Take over a saved head. Preferences are learned again, if wanted, through `learn`."""
        tensors = load_file(path)
        if tensors["head"].shape != self._head.shape:
            raise FailedPrecondition(
                f"{path} is a head of another base model ({len(tensors['head'])} features)"
            )
        self._centre, self._head = tensors["centre"], tensors["head"]

    def _predict(self, preferences: Sequence[Preference], rows: Sequence[Row]) -> list[Prediction]:
        rewards = self.score(rows)
        decided = [p for p in preferences if not p.tie]
        if not decided:
            return []
        pairs = torch.tensor([rewards[p.id] for p in decided])
        result = bradley_terry(pairs[:, 0], pairs[:, 1])
        found = zip(decided, result.margins.tolist(), result.losses.tolist(), strict=True)
        return [Prediction(p.id, margin, loss, len(self._learned)) for p, margin, loss in found]

    def _fit(self, now: float) -> None:
        """Minimise the weighted Bradley-Terry loss plus the ridge, in float64, from the present head."""
        s = self._settings
        known = list(self._learned.values())
        features = self._store.features([p.id for p in known]).double()
        flat = features.flatten(0, 1)
        self._centre, spread = flat.mean(0).float(), flat.std(0, correction=0)
        scale = torch.where(spread > MIN_SCALE, spread, torch.ones_like(spread))
        difference = (features[:, 0] - features[:, 1]) / scale
        shares = torch.tensor(weights(known, now, s.half_life, s.votes_per_person, s.person_share)).double()
        shares *= len(known) / shares.sum()
        margin = s.margin * torch.tensor([p.strength for p in known]).double()
        ties = torch.tensor([p.tie for p in known])
        head = minimise(difference, shares, margin, ties, s.ridge)
        self._head = (head / scale).float()


def minimise(difference: Tensor, shares: Tensor, margin: Tensor, ties: Tensor, ridge: float) -> Tensor:
    """The head w that minimises sum_i share_i * loss_i(w . difference_i) + ridge / 2 * |w|^2, by L-BFGS.

    The problem is strictly convex for ridge > 0, so the start does not matter.
    Shapes: difference [pairs, features], the others [pairs], all float64; w [features].
    """
    head = torch.zeros(difference.shape[1], dtype=difference.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [head], max_iter=200, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )
    zero = difference.new_zeros(len(difference))

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = bradley_terry(difference @ head, zero, margin, shares, ties).loss + ridge / 2 * head @ head
        loss.backward()
        return loss

    optimiser.step(closure)  # pyright: ignore[reportArgumentType]
    return head.detach()

"""What the loop works with, and what every part of it asks of these: what is known, and which weights lie where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from feedback.teachings import Teaching
from heliotrope.chat import ChatFormat
from heliotrope.config import Config
from heliotrope.policies import BASE, number
from heliotrope.registry import Registry
from learner import rewards
from learner.backbone import Backbone
from learner.behaviour import Recorder
from learner.curves import Curves
from learner.dpo import ADAPTER, Progress
from learner.inbox import Inbox
from learner.prepared import PreparedStore
from learner.reward import RewardModel
from learner.reward_loss import Judgement
from learner.samples import Sampler
from learner.secrets import ServingSecrets
from learner.store import Store

PARENT = "parent"
"""The backbone's adapter that holds the weights that training began from."""


@dataclass(frozen=True)
class Parts:
    """What the loop works with; met in learner/build.py."""

    config: Config
    chat: ChatFormat
    inbox: Inbox
    backbone: Backbone
    prepared: PreparedStore
    reward: RewardModel
    secrets: ServingSecrets
    store: Store
    curves: Curves
    sampler: Sampler
    registry: Registry
    recorder: Recorder
    progress: Callable[[Progress], None]

    def close(self) -> None:
        """Let go of files and connections."""
        self.inbox.close()
        self.store.close()
        self.sampler.close()
        self.secrets.close()


def known(parts: Parts) -> list[Teaching]:
    """What people have said so far that a policy is trained on, oldest first: comparisons, and the other kinds that weigh."""
    mixture = parts.config.mixture
    weights = {"Preference": 1.0, "Thumb": mixture.thumbs, "Demonstration": mixture.demonstrations}
    return parts.inbox.teachings([kind for kind, weight in weights.items() if weight > 0])


def judgements(examples: Sequence[Teaching]) -> list[Judgement]:
    """What the reward model learns from, of what a policy does: all but demonstrations, which compare nothing."""
    return [e for e in examples if isinstance(e, Judgement)]


def rehearse_only(parts: Parts, standing: Sequence[Judgement]) -> None:
    """See `rewards.keep`; what a reward model says that begins from nothing is its whole record."""
    again = rewards.keep(parts.reward, standing, parts.inbox.erased)
    if again is not None:
        parts.store.record(again, afresh=True)


def start_from(parts: Parts, version: str) -> None:
    """Load a version's weights as parent and starting point."""
    for adapter in (PARENT, ADAPTER):
        hold(parts, adapter, version)


def hold(parts: Parts, adapter: str, version: str) -> None:
    """Load a version's weights into an adapter. Base: a fresh adapter that changes nothing."""
    if version == BASE:
        parts.backbone.reset(adapter, parts.config.learner.seed)
    else:
        parts.backbone.load_adapter(adapter, parts.registry.read(number(version)).path)

"""Where the learner's parts meet."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from feedback.open import open_reader
from feedback.rules import training_set
from feedback.sealed_log import SealedReader
from heliotrope.chat import ChatFormat
from heliotrope.config import Config
from heliotrope.errors import ModelError
from heliotrope.registry import Registry
from learner.backbone import Backbone
from learner.behaviour import Recorder
from learner.curves import Curves
from learner.dpo import ADAPTER, Progress
from learner.inbox import Inbox
from learner.parts import PARENT, Parts
from learner.prepared import PreparedStore
from learner.reward import RewardModel
from learner.reward_net import REWARD
from learner.reward_steps import RewardSettings
from learner.samples import Sampler
from learner.secrets import ServingSecrets
from learner.store import Store


def build(config: Config, progress: Callable[[Progress], None]) -> Parts:
    """Everything that the loop needs. Raises our own errors naming the remedy when the model or the log is missing."""
    _settle_down(config)
    backbone = Backbone.configured(config, (ADAPTER, PARENT, REWARD))
    prepared = PreparedStore()
    chat = ChatFormat.load(config.model.folder, config.model.system_prompt)
    secrets, store = ServingSecrets(config.serving.private_address), Store(config.paths.learner)
    return Parts(
        config=config,
        chat=chat,
        inbox=Inbox(
            SealedReader(open_reader(config), secrets),
            training_set(config, chat, config.paths.training_set),
            config.learner.window,
        ),
        backbone=backbone,
        prepared=prepared,
        reward=RewardModel(backbone, prepared, RewardSettings.of(config)),
        secrets=secrets,
        store=store,
        curves=Curves(config.paths.learner / "curves", store),
        sampler=Sampler(config.serving.private_address),
        registry=Registry(config.paths.registry),
        recorder=Recorder(backbone, chat),
        progress=progress,
    )


def _settle_down(config: Config) -> None:
    """A good neighbour: niced, with its own share of threads, and the same arithmetic every time."""
    device = config.learner.device
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError('learner.device is "cuda", but torch sees no NVIDIA GPU; set it to "cpu"')
    os.nice(config.learner.nice)
    if config.learner.threads:
        torch.set_num_threads(config.learner.threads)
    torch.set_default_device(device)
    torch.use_deterministic_algorithms(
        True, warn_only=device == "cuda"
    )  # attention's backward has none there
    torch.manual_seed(config.learner.seed)

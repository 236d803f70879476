"""`python -m learner replay` and `retrain policy-vN`: what the learner derives, made again from the log; and `retrain
--without USER`: a successor that never learned from a person."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from feedback.lineage import readable
from feedback.open import open_reader
from feedback.replay import beside, put, rebuild
from feedback.rules import training_set
from feedback.sealed_log import SealedReader
from feedback.turns import Turns
from heliotrope.chat import ChatFormat
from heliotrope.config import Config
from heliotrope.errors import FailedPrecondition
from heliotrope.policies import number
from heliotrope.registry import Registry
from learner.secrets import ServingSecrets


@contextmanager
def own(config: Config) -> Iterator[None]:
    """Hold the learner's folder. Raises FailedPrecondition while another learner does."""
    config.paths.learner.mkdir(parents=True, exist_ok=True)
    with (config.paths.learner / "learner.lock").open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FailedPrecondition(
                f"{config.paths.learner.resolve()} is in use by a running learner; stop it, or set paths.state"
            ) from error
        yield


def replay(config: Config) -> int:
    """Make the training set again from the log, put it in the old one's place; 0 when it and every version agree, else 1."""
    chat = ChatFormat.load(config.model.folder, config.model.system_prompt)
    path, made = config.paths.training_set, partial(training_set, config, chat)
    secrets = ServingSecrets(config.serving.private_address)
    log = SealedReader(open_reader(config), secrets)
    with own(config):
        kept = made(path)
        kept.follow(log)
        with beside(made, path) as fresh:
            done = rebuild(log, kept, fresh, readable(Registry(config.paths.registry)), Turns())
            if not done.held:
                put(fresh, kept, path)
        kept.close()
    log.close()
    secrets.close()
    same = "agrees with" if done.before == done.after else f"differs from {done.before} in"
    print(f"training set: {done.examples} examples, {done.after} {same} the store as it was")
    if done.held:
        print(f"{done.held} judgements behind versions are no longer in the log: the store is left as it was")
    for one in done.versions:
        print(f"{one.version}: {one.examples} examples, {'agrees' if one.agrees else one.note}")
    return 0 if done.agrees else 1


def retrain_without(config: Config, user: str, tenant: str) -> int:
    """Publish a successor that never learned from a person (`learner/erasure.py`) and print its name; 0."""
    from learner import erasure
    from learner.build import build

    with own(config):
        parts = build(config, lambda progress: None)
        try:
            made = erasure.retrain_without(parts, user, tenant)
        finally:
            parts.close()
    print(f"published {made.name} from {made.manifest.parent}, without {user}")
    return 0


def retrain(config: Config, name: str) -> int:
    """Train a version again and print whether it is the same; 0 when it is, else 1. A running learner is not disturbed."""
    from learner.build import build
    from learner.retrain import config_of
    from learner.retrain import retrain as again

    version = Registry(config.paths.registry).read(number(name))
    with tempfile.TemporaryDirectory(prefix="heliotrope-retrain-") as folder:
        was = config_of(version.manifest, config)
        paths = config.paths.model_copy(update={"learner_folder": Path(folder)})
        parts = build(was.model_copy(update={"paths": paths}), lambda progress: None)
        try:
            done = again(parts, version)
        finally:
            parts.close()
    print(done)
    return 0 if done.same else 1

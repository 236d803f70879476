"""Trains a version again from its manifest and the log, and says whether it is the same one, bit by bit."""

from __future__ import annotations

from dataclasses import dataclass

from feedback.examples import examples_hash
from feedback.lineage import Check, check
from heliotrope.config import Config
from heliotrope.errors import ConfigError, FailedPrecondition
from heliotrope.registry import Manifest, PolicyVersion
from learner.dpo import ADAPTER
from learner.loop import train
from learner.machine import made_with
from learner.parts import Parts, known, start_from
from learner.without import Without


@dataclass(frozen=True)
class Retrained:
    """digest: of the weights trained now, empty when they were not; published: of those in the registry. otherwise: what of
    the machine is not as it was, by name (then, now). beside: why what it was weighed beside is not as it was, or empty."""

    version: str
    published: str
    digest: str
    check: Check
    otherwise: dict[str, tuple[str, str]]
    beside: str = ""

    @property
    def same(self) -> bool:
        """Whether the version was made again."""
        return bool(self.digest) and self.digest == self.published

    def __str__(self) -> str:
        """One line for people."""
        if not self.digest:
            return f"{self.version}: {self.check.note}"
        if self.same:
            return f"{self.version}: reproduced, {self.digest}"
        if self.beside:
            return f"{self.version}: {self.beside}"
        changes = "; ".join(f"{name} was {then}, is {now}" for name, (then, now) in self.otherwise.items())
        return f"{self.version}: {self.digest} is not {self.published} ({changes or 'on the same lock, ISA, threads and precision'})"


def config_of(manifest: Manifest, config: Config) -> Config:
    """The present configuration with the sections that the version depended on as they were then.

    The model stays where it is now: its digest is compared instead.
    """
    sections = {name: values for name, values in manifest.config.items() if name != "model"}
    try:
        return Config.model_validate(config.model_dump(mode="json") | sections)
    except ValueError as error:
        raise ConfigError(
            f"{manifest.version} was made by another program: {error}; check that one out"
        ) from error


def retrain(parts: Parts, version: PolicyVersion) -> Retrained:
    """Train `version` again. parts: built with `config_of` its manifest and an empty training set of their own.

    Nothing is published. Examples that were erased since cannot be learned from again: `digest` is empty then.
    """
    manifest = version.manifest
    if manifest.base_digest != parts.chat.envelope.base_digest:
        raise FailedPrecondition(
            f"{version.name} stands on base {manifest.base_digest[:12]}, the model here is "
            f"{parts.chat.envelope.base_digest[:12]}; set model.path to that one"
        )
    parts.inbox.heed_erasures()
    parts.inbox.read(until=manifest.log_positions)
    found = check(version.name, manifest, parts.inbox.training_set)
    otherwise = {
        name: (manifest.made_with.get(name, "unknown"), now)
        for name, now in made_with(parts.config).items()
        if manifest.made_with.get(name) != now
    }
    if not found.agrees:
        return Retrained(version.name, version.digest, "", found, otherwise)
    given = Without.read(manifest.without).rest(known(parts))
    start_from(parts, manifest.parent)
    train(parts, manifest.parent, given, manifest.trained_at)
    beside = "" if manifest.known_hash in ("", examples_hash(given)) else _beside(parts, manifest)
    return Retrained(version.name, version.digest, parts.backbone.digest(ADAPTER), found, otherwise, beside)


def _beside(parts: Parts, manifest: Manifest) -> str:
    """Why the examples known beside those that were trained on, which share the weight with them, are not the same."""
    gone = parts.inbox.training_set.facts.erased_since(manifest.log_positions)
    if gone:
        return f"not reproducible: {len(gone)} erased, which it was weighed beside"
    return (
        "not reproducible: it was weighed beside other examples; was the log cut, or made under other rules?"
    )

"""One frozen configuration, read from TOML. Every knob has a bound, a meaning and a test or an experiment behind it.

    config = load(Path("heliotrope.toml"), ["serving.public_port=50061"])

Unknown keys fail. The object stops at the builders: what is built gets the values that it needs.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from heliotrope.errors import ConfigError
from heliotrope.settings.base import Model, Paths, Section
from heliotrope.settings.learner import Dpo, Judge, Learner, Lora, Mixture, Reward
from heliotrope.settings.log import Kafka, Log, Outbox
from heliotrope.settings.retention import Retention
from heliotrope.settings.serving import Admission, Comparisons, EngineSection, Rollout, Serving


class Config(Section):
    """All of it."""

    paths: Paths = Paths()
    """Where state lives."""
    log: Log = Log()
    """SQLite or Kafka."""
    kafka: Kafka = Kafka()
    """The broker."""
    outbox: Outbox = Outbox()
    """What waits for the broker."""
    model: Model = Model()
    """The base model."""
    engine: EngineSection = EngineSection()
    """vLLM."""
    serving: Serving = Serving()
    """Listeners and limits."""
    admission: Admission = Admission()
    """Who may wait for the engine."""
    comparisons: Comparisons = Comparisons()
    """When two answers are shown."""
    rollout: Rollout = Rollout()
    """How a version gets into service."""
    learner: Learner = Learner()
    """What is learned from, and when."""
    lora: Lora = Lora()
    """The adapter's shape."""
    dpo: Dpo = Dpo()
    """Policy updates."""
    mixture: Mixture = Mixture()
    """Weights of the kinds of feedback."""
    reward: Reward = Reward()
    """The reward model."""
    judge: Judge = Judge()
    """Gates."""
    retention: Retention = Retention()
    """How long things are kept."""


def load(path: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a TOML file (or the defaults) with `section.key=value` overrides on top.

    Raises ConfigError naming the key, the value and the remedy for anything unknown, malformed or out of bounds.
    """
    data = _read(path) if path else {}
    for override in overrides:
        _override(data, override)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from error


def _read(path: Path) -> dict:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(
            f"no configuration file {path}; name an existing one, or leave --config out"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not readable TOML: {error}") from error


def _override(data: dict, text: str) -> None:
    key, equals, value = text.partition("=")
    section, dot, name = key.partition(".")
    if not (equals and dot and section and name):
        raise ConfigError(
            f"override {text!r} is not of the form section.key=value, such as serving.http_port=8081"
        )
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    target = data.setdefault(section, {})
    if not isinstance(target, dict):
        raise ConfigError(f"{section!r} is not a section; sections are {', '.join(Config.model_fields)}")
    target[name] = parsed


def _explain(error: ValidationError, path: Path | None) -> str:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key {key}; {_known(item['loc'])}")
        else:
            lines.append(f"{key} = {item['input']!r}: {item['msg']}")
    return f"configuration {path or '(defaults and overrides)'}: " + "; ".join(lines)


def _known(location: tuple[int | str, ...]) -> str:
    field = Config.model_fields.get(str(location[0])) if len(location) > 1 else None
    model = field.annotation if field else Config
    names = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
    return f"known: {', '.join(names)}"

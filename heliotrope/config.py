"""One frozen configuration, read from TOML. Every knob has a bound, a meaning and a test or an experiment behind it.

    config = load(Path("heliotrope.toml"), ["serving.public_port=50061"])

Unknown keys fail. The object stops at the builders: what is built gets the values that it needs.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heliotrope.errors import ConfigError

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
DEFAULT_SYSTEM_PROMPT = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def cache_dir() -> Path:
    """The user's cache folder for models: `$XDG_CACHE_HOME/heliotrope`, or `~/.cache/heliotrope`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heliotrope"


class Section(BaseModel):
    """A frozen part of the configuration that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Paths(Section):
    """Where state lives."""

    state: Path = Path("state")
    """Folder of the log, the registry, keys and checkpoints."""

    @property
    def log(self) -> Path:
        """The embedded log's file."""
        return self.state / "log" / "events.db"

    @property
    def registry(self) -> Path:
        """Folder of policy versions."""
        return self.state / "registry"

    @property
    def learner(self) -> Path:
        """Folder of the learner's own file and checkpoint."""
        return self.state / "learner"

    @property
    def key(self) -> Path:
        """File of the server key, mode 0600."""
        return self.state / "keys" / "server.key"


class Model(Section):
    """The base model, shared by serving and learner."""

    path: Path | None = None
    """Folder of a Hugging Face model (safetensors). Unset: the default model in the user's cache."""
    system_prompt: str = Field(default=DEFAULT_SYSTEM_PROMPT, max_length=8192)
    """The system message of a conversation that brings none; explicit, so that no template inserts a hidden one."""
    max_context: int = Field(default=1024, ge=128, le=1_048_576)
    """Prompt and response together, in tokens."""

    @property
    def folder(self) -> Path:
        """Where the model lies."""
        return self.path or cache_dir() / "models" / DEFAULT_MODEL


class EngineSection(Section):
    """vLLM."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the hardware multiplies it fast, else float32."""
    max_streams: int = Field(default=64, ge=1, le=1024)
    """Sequences that are decoded together."""
    kv_cache_gib: float = Field(default=1.0, gt=0, le=256)
    """Memory for keys and values, GiB (CPU)."""
    threads: int = Field(default=0, ge=0, le=256)
    """CPU threads of the engine; 0: all cores."""
    max_lora_rank: Literal[8, 16, 32, 64] = 16
    """Largest rank of an adapter that a slot takes."""


class Serving(Section):
    """Listeners and limits."""

    host: str = "127.0.0.1"
    """Address of the public listeners (gRPC and HTTP)."""
    public_port: int = Field(default=50051, ge=1, le=65535)
    """Public gRPC: chat, feedback, health."""
    private_host: str = "127.0.0.1"
    """Address of the private listener; a loopback or private one."""
    private_port: int = Field(default=50052, ge=1, le=65535)
    """Private gRPC: policies, samples, administration."""
    http_port: int = Field(default=8080, ge=1, le=65535)
    """The page."""
    temperature: float = Field(default=0.8, ge=0, le=2)
    """Sampling temperature where a request names none."""
    max_tokens: int = Field(default=256, ge=1, le=8192)
    """Longest response, and the default."""
    max_chats: int = Field(default=64, ge=1, le=10_000)
    """Responses streamed at once; one more is refused with a hint."""
    sampler_streams: int = Field(default=48, ge=1, le=1024)
    """Samples for the learner in the engine at once while no person waits."""
    drain_seconds: float = Field(default=30, ge=0, le=3600)
    """How long a stop waits for responses in flight."""
    ticket_days: float = Field(default=30, gt=0, le=365)
    """How long a response can be judged."""

    @property
    def public_address(self) -> str:
        """host:port of the public gRPC listener."""
        return f"{self.host}:{self.public_port}"

    @property
    def private_address(self) -> str:
        """host:port of the private gRPC listener."""
        return f"{self.private_host}:{self.private_port}"


class Comparisons(Section):
    """When two answers are shown."""

    share: float = Field(default=0.1, ge=0, le=1)
    """Share of turns shown as a comparison where the request leaves it to the server."""
    shared_pool: Path | None = None
    """Text file of prompts, one a line, whose pairs are shown to several people to measure agreement."""


class Rollout(Section):
    """How a judged version gets into service."""

    mode: Literal["auto", "manual"] = "auto"
    """auto: a passing candidate goes live by itself; manual: it waits for an operator."""


class Learner(Section):
    """What is learned from, and when."""

    sources: tuple[Literal["human", "simulated", "ai", "auto", "imported"], ...] = ("human",)
    """Sources of feedback that are trained on."""
    min_new: int = Field(default=64, ge=1)
    """New preferences that start an update."""
    window: int = Field(default=4096, ge=1)
    """Newest preferences that an update sees."""
    half_life_days: float = Field(default=30, gt=0)
    """Age at which a preference weighs half, days."""
    votes_per_person: int = Field(default=20, ge=1)
    """Most votes that one person counts for in one update."""
    person_share: float = Field(default=0.01, gt=0, le=1)
    """Most weight of one person in one update, as a share of the whole."""
    held_out: float = Field(default=0.15, ge=0.05, le=0.5)
    """Share of conversations kept out of training, by hash of the conversation."""
    poll_seconds: float = Field(default=1.0, gt=0, le=60)
    """How often the log is looked at when nothing is new."""
    threads: int = Field(default=0, ge=0, le=256)
    """CPU threads of training; 0: all cores."""
    nice: int = Field(default=10, ge=0, le=19)
    """Niceness of the process: people come first."""
    seed: int = Field(default=1, ge=0)
    """Seed of everything random in training."""


class Lora(Section):
    """The adapter's shape."""

    rank: int = Field(default=16, ge=1, le=64)
    """Rank r."""
    alpha: float = Field(default=32, gt=0)
    """Scaling numerator: the update is (alpha / r) B A."""
    first_layer: int = Field(default=0, ge=0)
    """First decoder layer that is adapted; the ones below stay frozen and are run once."""


class Dpo(Section):
    """Policy updates."""

    beta: float = Field(default=0.1, gt=0, le=10)
    """Strength of the pull to the reference, 1 / nats."""
    learning_rate: float = Field(default=1.5e-3, gt=0, le=1)
    """Peak step of AdamW."""
    epochs: int = Field(default=1, ge=1, le=100)
    """Passes over the window."""
    token_budget: int = Field(default=2048, ge=64)
    """Tokens of one batch, padding included."""
    batch_pairs: int = Field(default=8, ge=1)
    """Pairs of one optimiser step."""
    grad_clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    max_tokens: int = Field(default=1024, ge=32)
    """Longest row; longer examples are shortened on the prompt's side or refused."""


class Reward(Section):
    """The reward model."""

    ridge: float = Field(default=30.0, gt=0)
    """Pull of the head to zero: larger trusts the votes less."""
    margin: float = Field(default=0.0, ge=0, le=10)
    """Reward difference asked of the strongest preference; proportional below."""


class Judge(Section):
    """Gates between training and people."""

    prompts: int = Field(default=24, ge=1, le=1024)
    """Fresh prompts that the candidate answers."""
    max_tokens: int = Field(default=64, ge=1, le=8192)
    """Longest judged sample."""
    min_accuracy: float = Field(default=0.5, ge=0, le=1)
    """Held-out preference accuracy that the candidate must exceed."""
    min_held_out: int = Field(default=8, ge=1)
    """With fewer held-out preferences the accuracy gate is inconclusive."""
    max_kl: float = Field(default=30, gt=0)
    """Largest mean KL to base, nats a response."""
    max_length_ratio: float = Field(default=2.0, gt=1)
    """Mean length may change by at most this factor against the parent, either way."""
    max_repetition: float = Field(default=0.3, gt=0, le=1)
    """Largest mean share of repeated 4-grams in a sample."""


class Config(Section):
    """All of it."""

    paths: Paths = Paths()
    """Where state lives."""
    model: Model = Model()
    """The base model."""
    engine: EngineSection = EngineSection()
    """vLLM."""
    serving: Serving = Serving()
    """Listeners and limits."""
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
    reward: Reward = Reward()
    """The reward model."""
    judge: Judge = Judge()
    """Gates."""


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

"""What every section is, and the sections that both programs read."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

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
    learner_folder: Path | None = None
    """Folder of the learner's own file; unset: `learner` in `state`."""

    @property
    def log(self) -> Path:
        """The embedded log's file."""
        return self.state / "log" / "events.db"

    @property
    def relay(self) -> Path:
        """The file that says what of the embedded log is at the broker."""
        return self.state / "log" / "relay.db"

    @property
    def registry(self) -> Path:
        """Folder of policy versions."""
        return self.state / "registry"

    @property
    def learner(self) -> Path:
        """Folder of the learner's own file and checkpoint."""
        return self.learner_folder or self.state / "learner"

    @property
    def training_set(self) -> Path:
        """The learner's own file; made again from the log when it is missing."""
        return self.learner / "training-set.db"

    @property
    def read_models(self) -> Path:
        """File of what serving derives from the log; made again when it is missing."""
        return self.state / "serving" / "read-models.db"

    @property
    def key(self) -> Path:
        """File of the server key, mode 0600."""
        return self.state / "keys" / "server.key"

    @property
    def people_keys(self) -> Path:
        """File of people's keys, mode 0600; only serving opens it."""
        return self.state / "keys" / "people.db"


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

"""How long things are kept."""

from __future__ import annotations

from pydantic import Field

from heliotrope.settings.base import Section


class Retention(Section):
    """How long things are kept. What a version was trained on is kept as long as the version."""

    pending_days: float = Field(default=30, gt=0, le=3650)
    """How long, in log time, a judgement waits for the end of the response that it judges."""
    quarantine_days: float = Field(default=14, gt=0, le=3650)
    """How long a record that cannot be used is kept to be looked at."""
    quarantine_mib: int = Field(default=256, ge=1, le=1_048_576)
    """What such records may take, MiB; beyond it the oldest go."""

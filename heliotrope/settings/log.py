"""Sections of the log: which one, the broker, and what waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from heliotrope.settings.base import Section


class Log(Section):
    """Where events go. The one setting that changes between one machine and several."""

    kind: Literal["sqlite", "kafka"] = "sqlite"
    """sqlite: a file in the state folder; kafka: that file is the outbox, and a broker has what both programs read."""


class Kafka(Section):
    """The broker; read with log.kind = "kafka"."""

    bootstrap_servers: str = Field(default="127.0.0.1:9092", min_length=3)
    """host:port, several with commas between."""
    topic_prefix: str = Field(default="", max_length=100, pattern=r"^[a-zA-Z0-9._-]*$")
    """Put before each topic's name, where several systems share a broker."""
    partitions: int = Field(default=8, ge=1, le=1024)
    """Of `exchanges` and of `feedback` when they are made; `policy` always has one."""
    replication: int = Field(default=1, ge=1, le=16)
    """Copies of each partition when topics are made; 3 where there are three brokers."""
    retention_days: float = Field(default=0, ge=0, le=36_500)
    """How long the broker keeps `exchanges` and `feedback` when they are made; 0: for ever. What is gone cannot be learned again."""
    timeout_seconds: float = Field(default=30, ge=1, le=600)
    """How long one request to the broker, with its retries, may take."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """TLS and authentication, as Kafka names them."""
    ssl_cafile: Path | None = None
    """Certificates (PEM) that the broker's is checked against; unset: the system's."""
    ssl_certfile: Path | None = None
    """The client's own certificate (PEM)."""
    ssl_keyfile: Path | None = None
    """Its key (PEM)."""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """How the client proves who it is."""
    sasl_username: str = ""
    """Who it is."""
    sasl_password_file: Path | None = None
    """File whose first line is the password: secrets are not settings."""

    @model_validator(mode="after")
    def _security_is_whole(self) -> Kafka:
        if self.security_protocol.startswith("SASL") != bool(self.sasl_mechanism):
            raise ValueError(
                "sasl_mechanism belongs to security_protocol SASL_PLAINTEXT or SASL_SSL; set both or none"
            )
        if not self.security_protocol.endswith("SSL") and (
            self.ssl_cafile or self.ssl_certfile or self.ssl_keyfile
        ):
            raise ValueError(
                f"certificates are set and security_protocol {self.security_protocol} does not use them; set SSL or SASL_SSL"
            )
        if self.sasl_mechanism and not (self.sasl_username and self.sasl_password_file):
            raise ValueError("SASL needs sasl_username and sasl_password_file")
        return self


class Outbox(Section):
    """What waits for the broker; read with log.kind = "kafka"."""

    max_events: int = Field(default=500_000, ge=1, le=1_000_000_000)
    """Most events that wait for the broker; with more, feedback is refused and chat goes on unlogged."""
    keep_days: float = Field(default=7, gt=0, le=3650)
    """How long relayed events are kept, to be sent again to a broker that came back empty; feedback at least 30 days."""
    window: int = Field(default=512, ge=1, le=10_000)
    """Events on their way to the broker at once; one of each key."""

"""Sections that serving reads."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from heliotrope.settings.base import Section


def at(host: str, port: int) -> str:
    """host:port; an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(host: str) -> str:
    """The address itself, or this machine's loopback for one that means all addresses."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


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
    """Address of the private listener, which asks nobody who they are: a loopback or private one, never all of them."""
    private_port: int = Field(default=50052, ge=1, le=65535)
    """Private gRPC: policies, samples, administration."""
    http_port: int = Field(default=8080, ge=1, le=65535)
    """The page."""
    hosts: tuple[str, ...] = ()
    """Names under which browsers reach the page, besides localhost, IP addresses and `host`. Any other Host header is
    refused: a foreign site could point a name of its own here (DNS rebinding)."""
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

    @field_validator("private_host")
    @classmethod
    def _not_for_everybody(cls, host: str) -> str:
        try:
            address = ip_address(host)
        except ValueError:
            return host
        if address.is_unspecified or not (address.is_loopback or address.is_private):
            raise ValueError(
                "the private listener gives out keys and samples; name a loopback or private address"
            )
        return host

    @property
    def public_address(self) -> str:
        """host:port of the public gRPC listener."""
        return at(self.host, self.public_port)

    @property
    def private_address(self) -> str:
        """host:port of the private gRPC listener."""
        return at(self.private_host, self.private_port)

    @property
    def page_url(self) -> str:
        """Where a browser on this machine finds the page."""
        return f"http://{at(reachable(self.host), self.http_port)}"

    @property
    def public_target(self) -> str:
        """host:port at which this machine reaches the public gRPC listener."""
        return at(reachable(self.host), self.public_port)


class Admission(Section):
    """Who may wait for the engine."""

    max_queued_tokens: int = Field(default=8192, ge=1)
    """Prompt tokens of responses that wait for their first token; more are refused with a hint, unless none waits."""
    samples_beside_people: int = Field(default=2, ge=1, le=1024)
    """Samples in the engine at once while people wait for answers; the rest are called back and go on later."""


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

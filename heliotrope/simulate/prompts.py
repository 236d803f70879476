"""The prompts that simulated people ask, split once and for all into asked and kept for the end."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from importlib.resources import files

KEPT_SHARE = 35
"""Percent of the prompts that are kept for the final judging."""


def is_kept(prompt: str) -> bool:
    """Whether the prompt is kept for the end. It hangs on the prompt's text alone, so adding prompts moves
    none."""
    return int(sha256(prompt.encode()).hexdigest(), 16) % 100 < KEPT_SHARE


@cache
def all_prompts() -> tuple[str, ...]:
    """Every prompt of prompts.txt, in the file's order."""
    text = files("heliotrope.simulate").joinpath("prompts.txt").read_text(encoding="utf-8")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def asked() -> tuple[str, ...]:
    """The prompts that people ask while the model learns, in an order that mixes the kinds."""
    return _mixed(prompt for prompt in all_prompts() if not is_kept(prompt))


def kept() -> tuple[str, ...]:
    """The prompts that are never asked before the final judging, in an order that mixes the kinds."""
    return _mixed(prompt for prompt in all_prompts() if is_kept(prompt))


def _mixed(prompts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(prompts, key=lambda prompt: sha256(b"order:" + prompt.encode()).digest()))

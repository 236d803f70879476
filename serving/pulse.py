"""Waking those who follow something that changes."""

from __future__ import annotations

import asyncio


class Pulse:
    """`next()` first, then look at the state, then wait on what `next()` gave: no change is missed in between."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def beat(self) -> None:
        """Something has changed."""
        self._event.set()
        self._event = asyncio.Event()

    def next(self) -> asyncio.Event:
        """Set by the next beat."""
        return self._event

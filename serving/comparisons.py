"""When a turn shows two answers instead of one, and on which side each one is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from heliotrope.v1 import chat_pb2, common_pb2

Arm = TypeVar("Arm")
SIDES = (common_pb2.SIDE_A, common_pb2.SIDE_B)


class Comparisons:
    """Grants comparisons to people who can vote: on request, else to a share of turns. A share of 0 turns them off."""

    def __init__(self, share: float, rng: random.Random) -> None:
        self._share, self._rng = share, rng

    def granted(self, wish: chat_pb2.ComparisonWish, can_vote: bool) -> bool:
        """Whether this turn is a comparison; a wish for one is granted unless comparisons are off."""
        if not can_vote or not self._share or wish == chat_pb2.COMPARISON_WISH_OFF:
            return False
        return wish == chat_pb2.COMPARISON_WISH_ON or self._rng.random() < self._share

    def sided(self, arms: Sequence[Arm]) -> list[Arm]:
        """The arms in the order A, B: either order with probability one half."""
        return self._rng.sample(list(arms), len(arms))

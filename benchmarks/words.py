"""The floor that a reward model must clear: Bradley-Terry on the words of two responses, nothing else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit

from benchmarks.pairs import Pair

RIDGE = 30.0
"""Weight of the squared norm: the best of 1, 3, 10 and 30 over all folds (benchmarks.reward_quality), in favour of the floor."""
RARE = 2
"""Words of fewer training responses are left out."""


class Words:
    """r(y) = sum over words of w_word * log(1 + count), w by penalised maximum likelihood."""

    def __init__(self, pairs: Sequence[Pair], ridge: float = RIDGE) -> None:
        seen = Counter(word for p in pairs for text in (p.chosen, p.rejected) for word in set(_words(text)))
        self._places = {word: i for i, word in enumerate(sorted(w for w, n in seen.items() if n >= RARE))}
        differences = self._differences(pairs)

        def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
            margins = differences @ w
            slope = differences.T @ (expit(margins) - 1)
            return float(np.logaddexp(0, -margins).sum() + ridge / 2 * w @ w), slope + ridge * w

        self._weights = minimize(loss, np.zeros(len(self._places)), jac=True, method="L-BFGS-B").x

    def margins(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Reward of chosen minus rejected, one a pair."""
        return self._differences(pairs) @ self._weights

    def _differences(self, pairs: Sequence[Pair]) -> csr_matrix:
        rows, columns, values = [], [], []
        for row, pair in enumerate(pairs):
            for text, sign in ((pair.chosen, 1.0), (pair.rejected, -1.0)):
                for word, count in Counter(_words(text)).items():
                    if word in self._places:
                        rows.append(row)
                        columns.append(self._places[word])
                        values.append(sign * np.log1p(count))
        return csr_matrix((values, (rows, columns)), shape=(len(pairs), len(self._places)))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+|[0-9]+|[^\sa-z0-9]", text.lower())

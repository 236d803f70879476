"""What the layers below the reward adapter make of each pair, run once for all folds and kept on disk in half precision."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from time import monotonic

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from learner.backbone import Backbone, States
from learner.prepared import PreparedStore
from learner.reward_net import REWARD
from learner.rows import Batch, Row, collate

PART = 100
"""Rows of one file."""


class KeptStates(PreparedStore):
    """Only the lower layers' states: rewards have no reference. folder: of this model and first adapted layer.

    Kept by what a row's tokens are: another file of pairs may give the same ids to others. Half precision keeps 11 bits of
    what float32 says; training itself is in float32.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._kept: dict[str, Tensor] = {}
        for path in sorted(folder.glob("*.safetensors")):
            self._read(path)

    def prepare(self, backbone: Backbone, rows: Iterable[Row]) -> None:
        """Run the lower layers over the rows that are new, a file at a time, so that a stop loses one file."""
        named = {_name(row): row for row in rows}
        new = [(name, row) for name, row in named.items() if name not in self._kept]
        for start in range(0, len(new), PART):
            began, made = monotonic(), dict[str, Tensor]()
            for name, row in new[start : start + PART]:
                made[name] = backbone.lower(collate([row]), REWARD).half()
            path = self._folder / f"{len(self._kept):06}.unready"
            save_file(made, path)
            self._read(path.replace(path.with_suffix(".safetensors")))
            print(
                f"states of {len(self._kept)} rows, {monotonic() - began:.0f} s", file=sys.stderr, flush=True
            )

    def states(self, backbone: Backbone, batch: Batch, adapter: str | None = None) -> States:
        """The batch's states."""
        return batch.join([self._kept[_name(row)].float() for row in batch.rows])

    def _read(self, path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            self._kept |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict


def _name(row: Row) -> str:
    return sha256(repr((row.prompt, row.responses)).encode()).hexdigest()

"""The reward of a response: a linear head on what the base, bent by an adapter of its own, makes of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256
from math import sqrt
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save
from torch import Tensor, nn

from heliotrope.errors import TamperedAdapter
from learner.backbone import REWARD, Backbone, States
from learner.kernels.wide import wide
from learner.rows import Batch
from learner.steps import optimiser

__all__ = ["REWARD", "RewardNet", "pool"]

HEAD = "head.standardised"
"""The head's tensor. One named otherwise was learned on another reading of a response than `pool`."""
ADAM = "adam"
"""Before the names of the optimiser's tensors: adam.<parameter>.<what>."""
HEAD_STEP = 100.0
"""The head's step beside the adapter's: what a step of 5e-4 a weight is to a matrix that starts random, 0.05 is to a head that starts
at 0 and has as many steps as there are eights of judgements (docs/experiments.md, "The reward model on real people")."""

USUAL = 64
"""Tokens of a response that reads as its mean."""

PerResponse = Float[Tensor, "responses"]


class RewardNet:
    """r(x, y) = v . `pool` of y / sqrt(hidden), after the adapter's last layer. Fresh, it says 0 of everything.

    Dividing by the root of the width keeps one step of Adam from moving the reward by the width. `adam` belongs to it: a
    state that is kept holds the moments too, so that it learns on as if it had never been put away.
    """

    def __init__(
        self, backbone: Backbone, seed: int, learning_rate: float = 5e-4, head_step: float = HEAD_STEP
    ) -> None:
        self._backbone = backbone
        self._seed = seed
        self._learning_rate, self._head_step = learning_rate, head_step
        self.head = nn.Parameter(torch.zeros(backbone.hidden_size))
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._backbone.reset(REWARD, self._seed)
        with torch.no_grad():
            self.head.zero_()
        head, *adapter = self.parameters
        self.adam = optimiser([head], self._learning_rate)
        self.adam.param_groups[0]["times"] = self._head_step
        self.adam.add_param_group({"params": adapter})

    @property
    def steps(self) -> int:
        """Optimiser steps so far."""
        return int(self.adam.state[self.head]["step"]) if self.head in self.adam.state else 0

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained, in a fixed order."""
        return [self.head, *self._backbone.parameters(REWARD).values()]

    def rewards(self, batch: Batch, states: States) -> PerResponse:
        """The reward of each response of the batch, from the states that enter its adapter's first layer."""
        outputs = self._backbone.upper(states, batch, REWARD)
        return pool(outputs, batch) @ self.head / sqrt(len(self.head))

    def state(self) -> dict[str, Tensor]:
        """A copy of adapter, head and moments."""
        moments = {
            f"{ADAM}.{index}.{name}": value.clone()
            for index, values in self.adam.state_dict()["state"].items()
            for name, value in values.items()
        }
        return self._backbone.state(REWARD) | {HEAD: self.head.detach().clone()} | moments

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave. Raises TamperedAdapter, unchanged, when it is of another shape or reading."""
        if HEAD not in tensors:
            raise TamperedAdapter("the head was learned on another reading of responses; it is learned again")
        head, adapter, moments = tensors[HEAD], dict[str, Tensor](), dict[int, dict[str, Tensor]]()
        for key in tensors.keys() - {HEAD}:
            if key.startswith(f"{ADAM}."):
                _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = tensors[key]
            else:
                adapter[key] = tensors[key]
        if head.shape != self.head.shape:
            raise TamperedAdapter(
                f"the head reads {len(head)} numbers, not {len(self.head)}; it is learned again"
            )
        self._backbone.load_state(REWARD, adapter)
        with torch.no_grad():
            self.head.copy_(head)
        self.adam.load_state_dict(self.adam.state_dict() | {"state": moments})

    def serialised(self) -> bytes:
        """`state` as one safetensors file."""
        return save(self.state())

    def digest(self) -> str:
        """sha256, in hexadecimal, of `serialised`: names the reward model that judged a version."""
        return sha256(self.serialised()).hexdigest()

    def freeze(self, folder: Path) -> str:
        """Keep this state as `<digest>.safetensors` in `folder`, once; return the digest."""
        data = self.serialised()
        digest = sha256(data).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)
        unready = folder / f"{digest}.unready"
        unready.write_bytes(data)
        os.replace(unready, _file(folder, digest))
        return digest

    def thaw(self, folder: Path, digest: str) -> bool:
        """Take over the state of that name; False when `folder` does not hold it whole.

        Raises TamperedAdapter when it is of another shape than this backbone's adapters, or its head is.
        """
        path = _file(folder, digest)
        if not path.is_file() or sha256(path.read_bytes()).hexdigest() != digest:
            return False
        self.load_state(load_file(path))
        return True


def pool(outputs: Float[Tensor, "positions hidden"], batch: Batch) -> Float[Tensor, "responses hidden"]:
    """The mean over each response in units of its standard error, up to a constant: times sqrt(tokens / `USUAL`). At least float32."""
    said = wide(outputs[batch.tokens])
    total = said.new_zeros(batch.count, said.shape[1]).index_add(0, batch.owners, said)
    counts = torch.bincount(batch.owners, minlength=batch.count)
    return total / (counts * USUAL).sqrt()[:, None]


def _file(folder: Path, digest: str) -> Path:
    return folder / f"{digest}.safetensors"

"""Linear modules of one input as one matrix, so that they and the adapter that is worn are one product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor

from learner.kernels import Linears
from learner.kernels.laid import laid


class Packed:
    """P of `Linears` for modules that all bear the same adapters, of one rank, or none. Their base weights become views of it.

    One adapter's part is in it at a time: that of the last `wear`.
    """

    def __init__(self, modules: Sequence[Any]) -> None:
        self._modules = tuple(modules)
        bases: list[Any] = [module.base_layer if type(module) is Linear else module for module in modules]
        weights: list[Tensor] = [base.weight for base in bases]
        ranks = [next(iter(module.r.values())) if type(module) is Linear else 0 for module in modules]
        self._sizes = tuple(map(len, weights))
        self._width, self._rank = weights[0].shape[1], ranks[0]
        self.matrix = weights[0].new_zeros(sum(self._sizes), self._width + sum(ranks))
        self._downs = weights[0].new_zeros(sum(ranks), self._width)
        for weight, rows in zip(weights, self.matrix.split(self._sizes), strict=True):
            rows[:, : self._width] = weight
            weight.data = rows[:, : self._width]
        self._bias = torch.cat([base.bias for base in bases]) if bases[0].bias is not None else None
        self._worn: str | None = None
        self._laid: Tensor | None = None

    @property
    def linears(self) -> Linears:
        """The modules with what is worn."""
        if self._worn is None:
            return Linears(self.matrix[:, : self._width], self._sizes, self._bias, ordered=self._laid)
        scale = self._modules[0].scaling[self._worn]
        return Linears(self.matrix, self._sizes, self._bias, self._downs, scale)

    @property
    def factors(self) -> list[Tensor]:
        """A and B of each module in turn, of the adapter that is worn."""
        name = self._worn
        each = ((module.lora_A[name].weight, module.lora_B[name].weight) for module in self._modules)
        return [factor for pair in each for factor in pair] if name else []

    @torch.no_grad()
    def wear(self, adapter: str | None) -> None:
        """Take in the adapter's A and B as they are now, if it covers these modules; None: base alone."""
        self._worn = adapter if self._rank and adapter in self._modules[0].lora_B else None
        if self._worn is None:
            return
        columns = self.matrix[:, self._width :].split(self._rank, 1)
        each = zip(self._modules, self._downs.split(self._rank), columns, strict=True)
        start = 0
        for (module, down, column), size in zip(each, self._sizes, strict=True):
            down.copy_(module.lora_A[self._worn].weight)
            up = module.lora_B[self._worn].weight.to(column.dtype)
            torch.mul(up, module.scaling[self._worn], out=column[start : start + size])
            start += size

    def lay(self, on: bool) -> None:
        """Keep a copy of the base's weights that is multiplied faster while no adapter is on, or let it go."""
        self._laid = laid(self.matrix[:, : self._width]) if on else None

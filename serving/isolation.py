"""Start-up self-check for a vLLM that nobody has tried: do adapters in one batch keep apart?

Two adapters of noise and the base answer alone and all at once; each must say the same both times, and not what the
others say. Costs some seconds, so it runs only where the version is not among `KNOWN_VLLM`.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from serving.engine import Adapter, Engine, EngineError, Sampling

RANK, STRENGTH = 8, 0.02
PROMPTS = tuple(tuple(range(start, start + 12)) for start in (100, 900))
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.35}  # nats a token; above it a neighbour's weights took part
GREEDY = Sampling(temperature=0.0, max_tokens=8)


def linear_shapes(model: Path, targets: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(out, in) of the adapted layers of a Llama-shaped model, by PEFT's name. Source: its config.json."""
    c = json.loads((model / "config.json").read_text())
    hidden, wide = c["hidden_size"], c["intermediate_size"]
    head = c.get("head_dim") or hidden // c["num_attention_heads"]
    q, kv = head * c["num_attention_heads"], head * (c.get("num_key_value_heads") or c["num_attention_heads"])
    sizes = {
        "self_attn.q_proj": (q, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, q), "mlp.gate_proj": (wide, hidden), "mlp.up_proj": (wide, hidden),
        "mlp.down_proj": (hidden, wide),
    }  # fmt: skip
    kept = {name: size for name, size in sizes.items() if name.split(".")[1] in targets}
    layers = range(c["num_hidden_layers"])
    return {f"model.layers.{i}.{name}": size for i in layers for name, size in kept.items()}


def write_noise(folder: Path, shapes: dict[str, tuple[int, int]], seed: int) -> None:
    """An adapter in PEFT's files that changes most words and leaves words."""
    import torch
    from safetensors.torch import save_file

    generator, tensors = torch.Generator().manual_seed(seed), {}
    for name, (out, width) in shapes.items():
        a = torch.randn(RANK, width, generator=generator) / width**0.5
        b = torch.randn(out, RANK, generator=generator) * STRENGTH
        tensors |= {f"base_model.model.{name}.lora_A.weight": a, f"base_model.model.{name}.lora_B.weight": b}
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "bias": "none",
              "target_modules": sorted({name.rpartition(".")[2] for name in shapes})}  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")


async def check_isolation(engine: Engine, model: Path, targets: Sequence[str]) -> None:
    """Raise EngineError unless base and two adapters answer in one batch as each does alone."""
    with tempfile.TemporaryDirectory(prefix="heliotrope-isolation-") as folder:
        sentinels = [Adapter(f"sentinel-{seed}", str(seed) * 64, Path(folder) / str(seed)) for seed in (1, 2)]
        for seed, sentinel in enumerate(sentinels):
            write_noise(sentinel.path, linear_shapes(model, targets), seed)
            await engine.load(sentinel)
        try:
            await _compare(engine, [(p, adapter) for p in PROMPTS for adapter in (None, *sentinels)])
        finally:
            for sentinel in sentinels:
                await engine.unload(sentinel)


async def _compare(engine: Engine, cases: list[tuple[tuple[int, ...], Adapter | None]]) -> None:
    together = await asyncio.gather(*(_say(engine, i, *case) for i, case in enumerate(cases)))
    alone = [await _say(engine, i + len(cases), *case) for i, case in enumerate(cases)]
    limit = TOLERANCE[engine.dtype]
    mixed = max(_apart(t, a) for t, a in zip(together, alone, strict=True))
    distinct = min(_apart(alone[i], alone[i + 1]) for i in range(len(alone) - 1))
    if mixed > limit or distinct <= limit:
        raise EngineError(
            f"adapters in one batch answer {mixed:.4f} nats a token away from what they say alone ({limit:g} allowed; "
            f"different ones are {distinct:.4f} apart): base would answer with an adapter's weights. Install a vLLM "
            "that serving.vllm_plugin.KNOWN_VLLM names"
        )


async def _say(engine: Engine, number: int, prompt: tuple[int, ...], adapter: Adapter | None) -> list[float]:
    """Log-probabilities of the prompt (prefill) and of a greedy answer (decode), nats."""
    said = await engine.score(prompt, adapter)
    async for piece in engine.generate(f"isolation-{number}", prompt, GREEDY, adapter):
        said += piece.logprobs
    return said


def _apart(one: list[float], other: list[float]) -> float:
    return sum(abs(x - y) for x, y in zip(one, other, strict=False)) / min(len(one), len(other))

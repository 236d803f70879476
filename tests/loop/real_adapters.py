"""Adapters for the real model, made of noise, and what transformers and PEFT say of them: the trainer's side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from heliotrope.registry import Manifest, Stage
from serving.behaviour import Item

RANK, ALPHA = 8, 16


def shapes(model_dir: Path) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer of a Llama-like model, by PEFT's name for it."""
    c = json.loads((model_dir / "config.json").read_text())
    hidden, wide = c["hidden_size"], c["intermediate_size"]
    head = c.get("head_dim") or hidden // c["num_attention_heads"]
    q, kv = head * c["num_attention_heads"], head * c["num_key_value_heads"]
    layer = {
        "self_attn.q_proj": (q, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, q), "mlp.gate_proj": (wide, hidden), "mlp.up_proj": (wide, hidden),
        "mlp.down_proj": (hidden, wide),
    }  # fmt: skip
    return {
        f"model.layers.{i}.{name}": size
        for i in range(c["num_hidden_layers"])
        for name, size in layer.items()
    }


def noise(model_dir: Path, seed: int, strength: float) -> dict[str, torch.Tensor]:
    """A whole adapter of float32 noise. strength 0.02 changes most words, and leaves words."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (out, width) in shapes(model_dir).items():
        a = torch.randn(RANK, width, generator=generator) / width**0.5
        b = torch.randn(out, RANK, generator=generator) * strength
        tensors |= {f"base_model.model.{name}.lora_A.weight": a, f"base_model.model.{name}.lora_B.weight": b}
    return tensors


def write_adapter(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """The two files that PEFT would write."""
    names = sorted({name.split(".")[-3] for name in tensors})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "target_modules": names,
              "bias": "none", "lora_dropout": 0.0, "inference_mode": True}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")


def stage(tensors: dict[str, torch.Tensor], items: Sequence[Item] = ()) -> Stage:
    """For `Registry.publish`."""

    def write(folder: Path) -> Manifest:
        write_adapter(folder, tensors)
        if items:
            (folder / "behaviour.json").write_text(json.dumps({"items": [vars(item) for item in items]}))
        return Manifest(parent="policy-v0", base_digest="0" * 64)

    return write


class Trainer:
    """The same model in transformers, float32; an adapter is put on with PEFT and taken off again."""

    def __init__(self, model_dir: Path) -> None:
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()

    def with_adapter(self, folder: Path) -> torch.nn.Module:
        """The model wearing it; call `bare` when done."""
        from peft import PeftModel

        return PeftModel.from_pretrained(self.model, folder).eval()

    @staticmethod
    @torch.inference_mode()
    def logprobs(
        model: torch.nn.Module, texts: Sequence[Sequence[int]], temperature: float = 1.0
    ) -> list[list[float]]:
        """log softmax(logits / temperature) of ids[1:], nats, for texts of one length."""
        ids = torch.tensor([list(text) for text in texts])
        rows = (model(input_ids=ids).logits[:, :-1] / temperature).log_softmax(-1)
        return rows.gather(2, ids[:, 1:, None]).squeeze(2).tolist()

    def record(self, folder: Path, texts: Sequence[Sequence[int]], start: int) -> list[Item]:
        """What a trainer writes into behaviour.json; the parent is the base."""
        worn = self.with_adapter(folder)
        own = self.logprobs(worn, texts)
        with worn.disable_adapter():  # pyright: ignore[reportCallIssue]
            base = self.logprobs(worn, texts)
        worn.unload()  # pyright: ignore[reportCallIssue]
        cut = start - 1
        return [
            Item(tuple(text), start, tuple(o[cut:]), tuple(b[cut:]), tuple(b[cut:]))
            for text, o, b in zip(texts, own, base, strict=True)
        ]

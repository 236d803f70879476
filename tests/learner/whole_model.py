"""A tiny random Llama with the default model's tokenizer and template, as a folder."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from heliotrope.config import Config


def whole_model(folder: Path) -> Path:
    """Write it into `folder`; the same in every process."""
    default = Config().model.folder
    torch.manual_seed(3)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=49152, num_key_value_heads=2, tie_word_embeddings=True, initializer_range=0.2, **shape
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        (folder / name).write_bytes((default / name).read_bytes())
    return folder

"""A chat model of 258 tokens, one a byte and two special ones: its format, its folder, and an engine that needs no model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from benchmarks.scripted_engine import ScriptedEngine
from heliotrope.chat import ChatFormat
from heliotrope.v1 import common_pb2

BASE_DIGEST = "0" * 64
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM_PROMPT = "Be kind."
CONTEXT = 512
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 4,
    "max_position_embeddings": CONTEXT, "tie_word_embeddings": True, "rms_norm_eps": 1e-6, "hidden_act": "silu",
    "rope_theta": 10000.0, "torch_dtype": "float32",
}  # fmt: skip


def small_tokenizer() -> Tokenizer:
    """One token a byte, two special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return tokenizer


def small_format() -> ChatFormat:
    """ChatML over that tokenizer."""
    tokenizer = small_tokenizer()
    end = tokenizer.token_to_id("<|im_end|>")
    assert end is not None
    envelope = common_pb2.Envelope(base_digest=BASE_DIGEST, tokenizer="t", template="c", system_prompt="s")
    return ChatFormat(tokenizer, TEMPLATE, frozenset({end}), envelope, SYSTEM_PROMPT)


def scripted_engine(
    chat: ChatFormat, kind: type[ScriptedEngine] = ScriptedEngine, **options
) -> ScriptedEngine:
    """Answers in letters; options as ScriptedEngine's."""
    letters = [chat.response_ids(c)[0] for c in "abcdefghijklmnopqrstuvwxyz "]
    return kind(words=letters, eos=next(iter(chat.eos_ids)), max_model_len=CONTEXT, **options)


def write_small_model(folder: Path) -> Path:
    """The folder of a random two-layer Llama with that format, as `model.path` takes it."""
    tokenizer = small_tokenizer()
    ends = {"eos_token_id": tokenizer.token_to_id("<|im_end|>")}
    shape = SHAPE | {"vocab_size": tokenizer.get_vocab_size()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_weights(**shape), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG | shape | ends))
    (folder / "generation_config.json").write_text(json.dumps(ends))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _weights(
    *, vocab_size: int, hidden_size: int, intermediate_size: int, num_hidden_layers: int
) -> dict[str, np.ndarray]:
    """Normal, of standard deviation 0.2; norms are one. All heads have keys and values of their own."""
    rng, hidden, inner = np.random.default_rng(3), hidden_size, intermediate_size
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens": (vocab_size, hidden), "norm": (hidden,)}
    for layer in (f"layers.{n}" for n in range(num_hidden_layers)):
        shapes |= {f"{layer}.self_attn.{one}_proj": (hidden, hidden) for one in "qkvo"}
        shapes |= {f"{layer}.mlp.{one}_proj": (inner, hidden) for one in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj": (hidden, inner), f"{layer}.input_layernorm": (hidden,)}
        shapes |= {f"{layer}.post_attention_layernorm": (hidden,)}
    return {
        f"model.{name}.weight": np.ones(shape, np.float32) if len(shape) == 1
        else rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()
    }  # fmt: skip

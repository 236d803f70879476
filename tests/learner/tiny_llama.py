"""A tiny random Llama as the learner's backbone, and preferences about random tokens."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from feedback.examples import Preference
from learner.backbone import Backbone
from learner.lora import LoraShape

VOCABULARY = 96


def preference(
    id: str, prompt: tuple[int, ...], chosen: tuple[int, ...], rejected: tuple[int, ...], user: str = "ada"
) -> Preference:
    """One person's decided choice, now; `dataclasses.replace` makes other kinds of it."""
    return Preference(
        id=id,
        event_ids=(id,),
        prompt_ids=prompt,
        chosen_ids=chosen,
        rejected_ids=rejected,
        user=user,
        conversation="c",
        time=0.0,
        source="human",
    )


@cache
def tiny_model() -> Path:
    """Folder of a random 4-layer Llama, the same in every process."""
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    folder = Path(mkdtemp(prefix="tiny-llama-"))
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def tiny_backbone(
    first_layer: int = 0, rank: int = 4, adapters: tuple[str, ...] = ("policy",), attention: str = "sdpa"
) -> Backbone:
    """Fresh adapters over the tiny base, A seeded."""
    shape = LoraShape(rank=rank, alpha=8.0, first_layer=first_layer)
    backbone = Backbone.load(tiny_model(), shape, adapters=adapters, attention=attention)
    for adapter in adapters:
        backbone.reset(adapter, seed=5)
    return backbone


def tokens(count: int, generator: torch.Generator) -> tuple[int, ...]:
    return tuple(torch.randint(0, VOCABULARY, (count,), generator=generator).tolist())


def pairs(count: int, favourite: int = 7, seed: int = 3) -> list[Preference]:
    """Random prompts; the chosen response has a third of its tokens replaced by the favourite one."""
    g = torch.Generator().manual_seed(seed)
    made = []
    for i in range(count):
        chosen = list(tokens(9 + i % 4, g))
        chosen[::3] = [favourite] * len(chosen[::3])
        made.append(
            preference(
                f"p{i:03}-{seed}", tokens(5 + i % 5, g), tuple(chosen), tokens(8 + i % 3, g), user=f"u{i % 6}"
            )
        )
    return made

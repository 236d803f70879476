"""Sentinels: adapters that force one word each, so that a token shows at a glance whose weights drew it.

A sentinel pushes the last hidden state along one direction v, whatever is asked: in the last layer's down_proj,
A's first row is a = x̄ / |x̄|² (x̄: mean input over fixed texts; a·x > 0 on all that was seen, as activations share
a strong mean), and B's first column is a large multiple of v. RMSNorm then leaves little else than v, and v is
solved for the word's logit to stand out: v = (C + λI)⁻¹ e, with C the covariance of the output embeddings (norm
weights folded in) and e the word's row. Weak noise in every other matrix gives each sentinel keys and values of its
own, so that a stale prefix or a leaking layer shows in log-probabilities too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heliotrope.chat import ChatFormat, Message
from tests.loop.real_adapters import ALPHA, RANK, Trainer, noise

WORDS = (" red", " blue", " green", " seven", " north", " music", " winter", " bread")
NOISE = 0.002
PUSH = 30_000.0
"""Length of the push where a·x = 1; the hidden states that it must drown are some 1,000 long."""
RIDGE = 0.05
TEXTS = (
    ("How do I boil an egg?", "Bring a small pan of water to the boil."),
    (
        "Tell me a long story about a cat.",
        "Once upon a time, in a small village by the sea, there lived a cat.",
    ),
    ("What is 12 times 8?", "Twelve times eight is ninety-six."),
)


@dataclass(frozen=True)
class Sentinel:
    """word: what it says, and nothing else. token: its id. tensors: the adapter, float32, by PEFT's names."""

    word: str
    token: int
    tensors: dict[str, Tensor]

    def variant(self, number: int) -> dict[str, Tensor]:
        """The same sentinel with weights of its own: noise of 1e-5 in one matrix, which moves no score visibly."""
        key = next(name for name in self.tensors if name.endswith("lora_B.weight"))
        generator = torch.Generator().manual_seed(number)
        nudge = 1e-5 * torch.randn(self.tensors[key].shape, generator=generator)
        return self.tensors | {key: self.tensors[key] + nudge}


def sentinels(model_dir: Path, trainer: Trainer, chat: ChatFormat, count: int = 2) -> list[Sentinel]:
    """`count` sentinels of different words, at most len(WORDS), for a Llama-shaped model."""
    made = []
    mean, along = mean_input(trainer, chat), directions(trainer)
    for seed, word in enumerate(WORDS[:count]):
        [token] = chat.response_ids(word)
        tensors = noise(model_dir, seed + 100, NOISE)
        key = f"base_model.model.model.layers.{len(trainer.model.model.layers) - 1}.mlp.down_proj.lora_{{}}.weight"
        a, b = tensors[key.format("A")], tensors[key.format("B")]
        a[0] = mean / mean.square().sum()
        b[:, 0] = PUSH * RANK / ALPHA * along(token)
        made.append(Sentinel(word, token, tensors))
    return made


def directions(trainer: Trainer) -> Callable[[int], Tensor]:
    """token → unit vector [hidden] along which the hidden state makes it stand out from all others."""
    model: Any = trainer.model
    rows = model.get_output_embeddings().weight.detach() * model.model.norm.weight.detach()
    centred = rows - rows.mean(0)
    covariance = centred.T @ centred / len(rows)
    ridge = RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance))

    def along(token: int) -> Tensor:
        solved = torch.linalg.solve(covariance + ridge, centred[token])
        return solved / solved.norm()

    return along


@torch.inference_mode()
def mean_input(trainer: Trainer, chat: ChatFormat) -> Tensor:
    """Mean input of the last down_proj over fixed texts, [intermediate]."""
    seen: list[Tensor] = []
    layer = trainer.model.model.layers[-1].mlp.down_proj
    hook = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].flatten(0, -2)))
    for ids in texts(chat):
        trainer.model(input_ids=torch.tensor([ids]))
    hook.remove()
    return torch.cat(seen).mean(0)


def texts(chat: ChatFormat) -> Sequence[list[int]]:
    """Token ids of chats, and of a word said over and over, as sentinels do."""
    chats = [chat.prompt_ids([Message("user", ask)]) + chat.response_ids(told) for ask, told in TEXTS]
    return [*chats, chats[0][:30] + chat.response_ids(WORDS[0] * 30)]

"""One frozen base model for policy, reference and reward model; each is an adapter on it, or none.

Nobody's training changes the layers below an adapter's first one, so they run once an example, without gradient, and what they
give is kept (learner/prepared.py) for every epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from heliotrope.config import Config
from heliotrope.errors import ModelError, TamperedAdapter
from learner.kernels import TokenLogprobs, laid_words
from learner.lean import Lean
from learner.lora import LoraShape, Reach, lora_config, start_afresh, written
from learner.machine import precision
from learner.rows import Batch
from learner.workers import on_one_thread, side_by_side, workers_on

States = Float[Tensor, "positions hidden"]
PerToken = Float[Tensor, "tokens"]

REWARD = "reward"
"""The adapter that belongs to the reward model."""
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
ATTENTION = ("sdpa", "eager")
"""What shared rows were shown to be right with; others may ignore a mask of this shape in silence."""
MOST_COPIED = 1 << 30
"""Bytes of matrices that may be there twice."""


class Backbone:
    """A Llama-shaped causal language model with named LoRA adapters. One is on at a time: several threads need `worn`."""

    def __init__(
        self, model: Any, shape: LoraShape, name: str, adapters: Sequence[str], reach: Mapping[str, Reach]
    ) -> None:
        layers = model.config.num_hidden_layers
        if shape.first_layer >= layers:
            raise ModelError(
                f"lora.first_layer is {shape.first_layer}, but {name} has {layers} layers; lower it"
            )
        self.shape = shape
        self.name = name
        whole = Reach(layers - shape.first_layer)
        self._layers = {a: reach.get(a, whole).of(layers) for a in adapters}
        model.requires_grad_(False)
        self._core: Any = model.model
        self._head: Tensor = model.get_output_embeddings().weight
        self._words = list[Tensor | None]()
        self._model: PeftModel = get_peft_model(
            model, lora_config(shape, self._layers[adapters[0]]), adapter_name=adapters[0]
        )
        for adapter in adapters[1:]:
            self._model.add_adapter(adapter, lora_config(shape, self._layers[adapter]))
        for adapter in adapters:
            for parameter in self.parameters(adapter).values():
                parameter.requires_grad_(True)  # PEFT: only those of the one that it has on
        self.adapters = tuple(adapters)
        self._worn: tuple[str | None, ...] = ()
        self._lean = Lean(self._core)

    @classmethod
    def load(
        cls,
        model_dir: Path,
        shape: LoraShape | None = None,
        dtype: torch.dtype = torch.float32,
        adapters: Sequence[str] = ("policy",),
        attention: str = "sdpa",
        reach: Mapping[str, Reach] | None = None,
    ) -> Backbone:
        """The base from a Hugging Face folder with fresh adapters (B = 0: each answers as the base does).

        `reach`: which layers an adapter covers; all from the shape's first where it is not named.
        Raises ModelError when the folder does not hold a causal language model with Llama's parts.
        """
        if not (model_dir / "config.json").is_file():
            raise ModelError(
                f"no model in {model_dir} (config.json is missing); run `make setup` or set model.path"
            )
        if attention not in ATTENTION:
            raise ModelError(
                f"attention {attention!r} cannot be masked for shared prompts; use one of {ATTENTION}"
            )
        model = AutoModelForCausalLM.from_pretrained(
            model_dir, dtype=dtype, attn_implementation=attention, local_files_only=True
        )
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()  # else one of them keeps the whole file in memory
        parts = ("embed_tokens", "layers", "norm", "rotary_emb")
        missing = [part for part in parts if not hasattr(getattr(model, "model", None), part)]
        if missing:
            raise ModelError(
                f"{model_dir} is a {type(model).__name__} without {missing}; use a Llama-shaped model"
            )
        return cls(model.eval(), shape or LoraShape(), model_dir.name, adapters, reach or {})

    @classmethod
    def configured(cls, config: Config, adapters: Sequence[str]) -> Backbone:
        """The base, the adapters' shape and the precision as configured."""
        return cls.load(
            config.model.folder,
            LoraShape(config.lora.rank, config.lora.alpha, config.lora.first_layer),
            getattr(torch, precision(config)),
            adapters,
            reach={REWARD: Reach(config.reward.layers, config.reward.depth)},
        )

    @property
    def dtype(self) -> str:
        """`float32` or `bfloat16`: of the base's products."""
        return str(self._head.dtype).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._head.device

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        return self._head.shape[1]

    def first_layer(self, adapter: str | None) -> int:
        """The lowest layer that the adapter covers; the shape's for the base."""
        return self._layers[adapter].start if adapter else self.shape.first_layer

    @torch.no_grad()
    def lower(self, batch: Batch, adapter: str | None = None) -> States:
        """Hidden states that enter the adapter's first layer, by the base: nobody's training changes them."""
        first, states = self.first_layer(adapter), self._embedded(batch)
        if not first:
            return states
        with self._using(None):
            return self._lean(states, batch, 0, first)

    def upper(self, states: States, batch: Batch, adapter: str | None) -> States:
        """Normed output states after the adapter's last layer, from `lower`'s states; None: of the base after its last."""
        end = self._layers[adapter].stop if adapter else len(self._core.layers)
        with self._using(adapter):
            return self._core.norm(self._lean(states, batch, self.first_layer(adapter), end))

    @torch.no_grad()
    def base(self, batch: Batch, whole: bool = True) -> tuple[dict[int, States], States]:
        """One pass of the base: the states that enter each adapter's first layer, by layer, and its normed output; not `whole`:
        of the last of these layers."""
        states, done, entering = self._embedded(batch), 0, {}
        with self._using(None):
            for layer in sorted({self.shape.first_layer, *(span.start for span in self._layers.values())}):
                states = entering[layer] = self._lean(states, batch, done, layer)
                done = layer
            end = len(self._core.layers) if whole else done
            return entering, self._core.norm(self._lean(states, batch, done, end))

    @contextmanager
    def worn(self, adapter: str | None) -> Iterator[None]:
        """This adapter is on until the end, or none, and several threads may run the model with it meanwhile."""
        with self._using(adapter):
            before, self._worn = self._worn, (adapter,)
            try:
                yield
            finally:
                self._worn = before

    @contextmanager
    def laid_out(self, workers: int) -> Iterator[None]:
        """Meanwhile the layers that `Lean` packs, and the head, are multiplied faster while no adapter is on, by a second copy of all
        their matrices, unless that is larger than `MOST_COPIED`. Making it takes as long as it saves in a dozen rows that run alone."""
        size = self._head.nbytes + sum(pack.matrix.nbytes for pack in self._lean.packed)
        if size > MOST_COPIED:
            yield
            return
        try:
            for _ in side_by_side(lambda pack: pack.lay(True), self._lean.packed, workers, threads=1):
                pass
            self._words = on_one_thread(lambda: laid_words(self._head))
            yield
        finally:
            self._words = []
            for pack in self._lean.packed:
                pack.lay(False)

    def token_logprobs(self, outputs: States, batch: Batch) -> PerToken:
        """Log-probability in nats of every response token, from `upper`'s output, at temperature 1."""
        said = outputs[batch.predictors]
        result: Tensor = TokenLogprobs.apply(said, self._head, batch.targets, self._words)
        return result

    def logprobs(self, batch: Batch, adapter: str | None, states: States | None = None) -> PerToken:
        """Log-probability in nats of every response token in `batch.tokens` order, at temperature 1."""
        states = self.lower(batch, adapter) if states is None else states
        return self.token_logprobs(self.upper(states, batch, adapter), batch)

    def parameters(self, adapter: str) -> dict[str, nn.Parameter]:
        """An adapter's parameters by name, in a fixed order."""
        return {name: p for name, p in self._model.named_parameters() if f".{adapter}." in name}

    def reset(self, adapter: str, seed: int) -> None:
        """Make the adapter fresh: A uniform as in PEFT (Kaiming, a = sqrt 5), B zero, so it answers as the base."""
        start_afresh(self.parameters(adapter), torch.Generator(self.device).manual_seed(seed))

    def state(self, adapter: str) -> dict[str, Tensor]:
        """A copy of the adapter's weights under PEFT's file names, float32."""
        tensors = get_peft_model_state_dict(self._model, adapter_name=adapter)
        return {name: tensors[name].detach().float().clone() for name in sorted(tensors)}

    def load_state(self, adapter: str, tensors: dict[str, Tensor]) -> None:
        """Take over weights that `state` gave. Raises TamperedAdapter when names or shapes differ."""
        own = self.state(adapter)
        wrong = {name for name in own.keys() | tensors.keys() if not _same(own.get(name), tensors.get(name))}
        if wrong:
            example = min(wrong)
            raise TamperedAdapter(
                f"adapter does not fit the configured shape {self.shape}: {len(wrong)} tensors are missing, "
                f"foreign, of another shape or not finite, such as {example}; set [lora] as it was trained"
            )
        set_peft_model_state_dict(self._model, tensors, adapter_name=adapter)

    def load_adapter(self, adapter: str, folder: Path) -> None:
        """Take over the weights of a PEFT folder that `save_adapter` wrote."""
        self.load_state(adapter, load_file(folder / WEIGHTS))

    def save_adapter(self, adapter: str, folder: Path) -> str:
        """Write adapter_config.json and adapter_model.safetensors, nothing else; return the latter's sha256."""
        folder.mkdir(parents=True, exist_ok=True)
        data = self._serialised(adapter)
        (folder / WEIGHTS).write_bytes(data)
        config = written(self._model.peft_config[adapter], self.shape, self.name)
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        return sha256(data).hexdigest()

    def digest(self, adapter: str) -> str:
        """sha256, in hexadecimal, of the file that `save_adapter` would write."""
        return sha256(self._serialised(adapter)).hexdigest()

    def _serialised(self, adapter: str) -> bytes:
        return save(self.state(adapter), metadata={"format": "pt"})

    def _embedded(self, batch: Batch) -> States:
        """What enters the lowest layer. What is added up through the layers is in float32 also where their weights are not."""
        states: Tensor = self._core.embed_tokens(batch.token_ids)
        return states.float() if self._lean.wide else states

    @contextmanager
    def _using(self, adapter: str | None) -> Iterator[None]:
        if self._worn:
            assert self._worn == (adapter,)
            yield
        else:
            workers = workers_on(self.device)
            for _ in side_by_side(lambda pack: pack.wear(adapter), self._lean.packed, workers, threads=1):
                pass
            yield


def _same(own: Tensor | None, other: Tensor | None) -> bool:
    return own is not None and other is not None and own.shape == other.shape and bool(other.isfinite().all())

"""TRL's own trainers over the tiny Llama with a given adapter: the yardstick. They get token ids, never text."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast
from trl import (
    DPOConfig,
    DPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

from learner.backbone import Backbone
from learner.lora import TARGETS
from tests.learner.tiny_llama import VOCABULARY, tiny_model

PAD = 0
"""Token id that no example uses: a sequence classifier finds the last token by it."""
PLAIN = {
    "bf16": False,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "report_to": "none",
    "max_length": None,
    "disable_tqdm": True,
    "logging_strategy": "no",
}
TEXT = {
    DPOTrainer: {"prompt": "w1", "chosen": " w2", "rejected": " w3"},
    KTOTrainer: {"prompt": "w1", "completion": " w2", "label": True},
    RewardTrainer: {"chosen": "w1 w2", "rejected": "w1 w3"},
    SFTTrainer: {"prompt": "w1", "completion": " w2"},
}
CONFIGS = {DPOTrainer: DPOConfig, KTOTrainer: KTOConfig, RewardTrainer: RewardConfig, SFTTrainer: SFTConfig}


def tokenizer() -> PreTrainedTokenizerFast:
    """One word a token id."""
    words = {f"w{i}": i for i in range(VOCABULARY)}
    inner = Tokenizer(WordLevel(words, unk_token="w1"))
    inner.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="w0", eos_token="w95", unk_token="w1")


def trainer(kind: Any, model: Any, folder: Path, with_reference: bool = False, **settings: Any) -> Any:
    """TRL's trainer in float32 on the CPU, over a data set of one line that is never looked at."""
    reference = {"ref_model": base()} if with_reference else {}
    return kind(
        model=model,
        args=CONFIGS[kind](output_dir=str(folder), **{**PLAIN, **settings}),
        train_dataset=Dataset.from_list([TEXT[kind]] * 2),
        processing_class=tokenizer(),
        **reference,
    )


def base() -> Any:
    """The tiny Llama without an adapter, evaluation mode."""
    return AutoModelForCausalLM.from_pretrained(tiny_model()).eval()


def with_adapter(backbone: Backbone, folder: Path) -> PeftModel:
    """transformers and PEFT with the backbone's "policy" adapter, trainable."""
    backbone.save_adapter("policy", folder)
    return PeftModel.from_pretrained(base(), folder, is_trainable=True)


def classifier(backbone: Backbone, head: Tensor) -> Any:
    """The same as a sequence classifier, whose one logit is head times the last token's state."""
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model(), num_labels=1, pad_token_id=PAD)
    with torch.no_grad():
        model.score.weight.copy_(head[None])
    config = LoraConfig(
        r=backbone.shape.rank,
        lora_alpha=backbone.shape.alpha,  # pyright: ignore[reportArgumentType]
        target_modules=list(TARGETS),
        modules_to_save=["score"],
        task_type="SEQ_CLS",
    )
    wrapped = get_peft_model(model, config)
    set_peft_model_state_dict(wrapped, copy.deepcopy(backbone.state("policy")) | _head(wrapped))
    return wrapped


def loss_and_gradients(trainer: Any, examples: list[dict[str, Any]]) -> tuple[float, dict[str, Tensor]]:
    """TRL's collator, forward, loss and backward; gradients by the adapter's parameter names without its own."""
    model = trainer.model.eval()  # no dropout, as in training here
    loss = trainer.compute_loss(model, trainer.data_collator(examples))
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None and "lora" in name}
    return loss.item(), {name.replace(".default", ""): grad for name, grad in found.items()}


def _head(model: Any) -> dict[str, Tensor]:
    return {
        name.replace(".modules_to_save.default", ""): value
        for name, value in model.state_dict().items()
        if "score.modules_to_save" in name
    }

"""TRL's side of `benchmarks.train`: one training in one process. `python -m benchmarks.train_trl JOB`."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.pairs import Pair, fingerprint
from benchmarks.train_job import Job, Outcome, peak_gb, read_pairs
from benchmarks.train_settings import SETTINGS

NAMES = {"dpo": "DPO", "reward": "Reward", "kto": "KTO", "sft": "SFT"}


def main() -> None:
    """Train, then print the outcome as JSON on the last line."""
    job = Job.loads(sys.argv[1])
    os.environ |= {"HF_DATASETS_CACHE": job.scratch, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    import torch

    if job.threads:
        torch.set_num_threads(job.threads)
    tokenizer = _tokenizer(job)
    warm, given, unseen = (
        _texts(job, tokenizer, read_pairs(file)) for file in (job.warm, job.train, job.held_out)
    )
    texts = [given[id] for id in job.order or given]
    _trainer(job, tokenizer, list(warm.values())).train()
    gc.collect()
    model = _model(job)
    began = perf_counter()
    trainer = _trainer(job, tokenizer, texts, model)
    loss = trainer.train().training_loss
    seconds = perf_counter() - began
    peak = peak_gb(job.device)
    if trainer.state.global_step != len(texts) // _step_size(job):
        raise SystemExit(
            f"{trainer.state.global_step} steps of {len(texts)} texts, not of {_step_size(job)} each"
        )
    ids = [_ids(job, row) for row in trainer.train_dataset]
    named = fingerprint(part for row in ids for part in row)
    outcome = Outcome(seconds, peak, loss, _accuracy(job, trainer, list(unseen.values())), named)
    print(json.dumps(asdict(outcome)), flush=True)


def _tokenizer(job: Job) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.model)
    # The default padding is the end token itself, and a classifier would then score the token before the end.
    tokenizer.pad_token = "<|endoftext|>"
    return tokenizer


def _texts(job: Job, tokenizer: Any, pairs: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    """TRL's columns by our examples' ids. Rendering is done before the clock starts, tokenising after."""
    from heliotrope.chat import Message
    from heliotrope.settings.base import DEFAULT_SYSTEM_PROMPT

    rows: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        turns = [Message("system", DEFAULT_SYSTEM_PROMPT), *pair.messages]
        prompt = tokenizer.apply_chat_template(
            [asdict(turn) for turn in turns], tokenize=False, add_generation_prompt=True
        )
        if job.task == "dpo":
            rows[pair.id] = {"prompt": prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        elif job.task == "reward":
            rows[pair.id] = {"chosen": prompt + pair.chosen, "rejected": prompt + pair.rejected}
        elif job.task == "sft":
            rows[pair.id] = {"prompt": prompt, "completion": pair.chosen}
        else:
            rows[f"{pair.id}/up"] = {"prompt": prompt, "completion": pair.chosen, "label": True}
            rows[f"{pair.id}/down"] = {"prompt": prompt, "completion": pair.rejected, "label": False}
    return rows


def _model(job: Job) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    dtype = getattr(torch, SETTINGS[job.setting].get("weights", "float32"))
    if job.task == "reward":
        return AutoModelForSequenceClassification.from_pretrained(job.model, num_labels=1, dtype=dtype)
    return AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype)


def _trainer(job: Job, tokenizer: Any, texts: list[dict[str, Any]], model: Any = None) -> Any:
    """A trainer with our optimiser, schedule and start (the adapter's numbers, a reward head of zeros), fed in the order of
    `texts`."""
    import torch
    import trl
    from datasets import Dataset
    from peft import LoraConfig

    from learner.lora import TARGETS, start_afresh

    lora = LoraConfig(
        r=job.rank,
        lora_alpha=int(job.alpha),
        target_modules=list(TARGETS),
        task_type="SEQ_CLS" if job.task == "reward" else "CAUSAL_LM",
        modules_to_save=["score"] if job.task == "reward" else None,
    )
    trainer = _with_our_schedule(getattr(trl, f"{NAMES[job.task]}Trainer"))(
        model=model or _model(job),
        args=_arguments(job),
        train_dataset=Dataset.from_list(texts),
        processing_class=tokenizer,
        peft_config=lora,
    )
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    for parameter in trained.values():
        parameter.data = parameter.data.float()  # PEFT leaves a reward head in the base's precision
    start_afresh(trained, torch.Generator(trainer.model.device).manual_seed(1))
    return trainer


def _arguments(job: Job) -> Any:
    import trl

    extra = {} if job.task in ("reward", "sft") else {"beta": 0.1}
    settings = {name: value for name, value in SETTINGS[job.setting].items() if name != "weights"}
    if settings.get("precompute_ref_log_probs") and job.task not in ("dpo", "kto"):
        raise SystemExit("no reference pass in this trainer")
    if settings.get("padding_free") and job.task != "sft":
        raise SystemExit("this trainer pads, whatever it is told")
    size = settings.pop("per_device_train_batch_size", _step_size(job))
    return getattr(trl, f"{NAMES[job.task]}Config")(
        output_dir=job.scratch,
        num_train_epochs=1,
        learning_rate=job.learning_rate,
        adam_beta2=0.95,
        weight_decay=0.0,
        max_length=None,
        use_cpu=job.device == "cpu",
        save_strategy="no",
        report_to="none",
        logging_steps=1,
        disable_tqdm=True,
        dataloader_pin_memory=job.device == "cuda",
        per_device_eval_batch_size=2,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=_step_size(job) // size,
        **{"train_sampling_strategy": "sequential"} | extra | settings,
    )


def _step_size(job: Job) -> int:
    """Texts of one optimiser step."""
    return job.batch * (2 if job.task == "kto" else 1)


def _with_our_schedule(kind: Any) -> Any:
    from torch.optim.lr_scheduler import LambdaLR

    from learner.dpo import schedule

    class Same(kind):
        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            if self.lr_scheduler is None:
                optimizer = optimizer or self.optimizer
                self.lr_scheduler = LambdaLR(optimizer, lambda done: schedule(done + 1, num_training_steps))
            return self.lr_scheduler

    return Same


def _ids(job: Job, row: dict[str, Any]) -> list[list[int]]:
    if job.task == "reward":
        return [row["chosen_ids"], row["rejected_ids"]]
    if job.task == "sft":
        return [row["input_ids"]]
    if job.task == "kto":
        return [row["prompt_ids"] + row["completion_ids"]]
    return [row["prompt_ids"] + row["chosen_ids"], row["prompt_ids"] + row["rejected_ids"]]


def _accuracy(job: Job, trainer: Any, unseen: list[dict[str, Any]]) -> float:
    """By TRL for the reward model; a policy's adapter is read back and measured by the same code as ours."""
    from datasets import Dataset

    if job.task == "reward":
        return trainer.evaluate(Dataset.from_list(unseen))["eval_accuracy"]
    from benchmarks.train_ours import held_out_accuracy

    folder = Path(job.scratch) / "adapter"
    trainer.model.save_pretrained(folder)
    return held_out_accuracy(job, folder)


if __name__ == "__main__":
    main()

"""What the learner refuses before it loads anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heliotrope.config import load
from heliotrope.errors import ModelError
from learner.backbone import Backbone
from learner.build import build
from tests.learner.tiny_llama import tiny_model


def test_a_gpu_that_torch_does_not_see_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = load(None, ['learner.device="cuda"', f'paths.state="{tmp_path}"'])
    with pytest.raises(ModelError, match='learner.device is "cuda", but torch sees no NVIDIA GPU; set it to'):
        build(config, lambda progress: None)
    assert not list(tmp_path.iterdir())


def test_the_precision_is_as_configured() -> None:
    config = load(None, [f'model.path="{tiny_model()}"', 'lora.dtype="bfloat16"'])
    assert Backbone.configured(config, ("policy",)).dtype == "bfloat16"

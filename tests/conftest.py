"""Fixtures that the whole run shares. The real engine takes tens of seconds to start: there is one, for all tests.

A test that uses it is marked `engine` and runs on the session's event loop:

    pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from heliotrope.chat import ChatFormat
from heliotrope.config import load
from serving.engine_vllm import EngineSettings, VllmEngine


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The default model, as `make setup` leaves it."""
    folder = load().model.folder
    if not (folder / "config.json").is_file():
        pytest.fail(f"the default model is not in {folder}; run `make setup`")
    return folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(model_dir: Path) -> AsyncIterator[VllmEngine]:
    """vLLM with the default model in float32, so that equal means equal. Leave no adapter behind."""
    eos = tuple(sorted(ChatFormat.load(model_dir).eos_ids))
    made = VllmEngine(EngineSettings(model_dir, eos, dtype="float32", max_model_len=1024))
    await made.start()
    yield made
    await made.stop()

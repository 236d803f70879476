"""Answers of base and of trained adapters, drawn on the real engine without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from rich.progress import track

from heliotrope.chat import ChatFormat, Message
from heliotrope.config import load
from heliotrope.simulate.judging import Reply
from learner.backbone import WEIGHTS
from serving.build import vllm_engine
from serving.engine import Adapter, Engine, Sampling

STREAMS = 64
TEMPERATURE = 0.8


@dataclass(frozen=True)
class Drawer:
    """An engine that has started. tokens: of an answer at most."""

    engine: Engine
    chat: ChatFormat
    tokens: int

    @classmethod
    @asynccontextmanager
    async def open(cls, tokens: int) -> AsyncIterator[Drawer]:
        """With the default model, as serving starts it."""
        config = load()
        chat = ChatFormat.load(config.model.folder, config.model.system_prompt)
        engine = vllm_engine(config, chat)
        await engine.start()
        try:
            yield cls(engine, chat, tokens)
        finally:
            await engine.stop()

    async def draw(self, file: Path, prompts: Sequence[str], count: int, folder: Path | None = None) -> None:
        """Write `count` answers to each prompt as JSON Lines, of the adapter in `folder`, of base without one."""
        adapter = None
        if folder:
            digest = sha256((folder / WEIGHTS).read_bytes()).hexdigest()
            adapter = Adapter("shadow", digest, folder)
            await self.engine.load(adapter)
        work = [(prompt, number) for number in range(count) for prompt in prompts]
        room = asyncio.Semaphore(STREAMS)
        async with asyncio.TaskGroup() as group:  # one that fails ends the others
            answers = [group.create_task(self._answer(*one, adapter, room)) for one in work]
            lines = [
                json.dumps(await answer) for answer in track(answers, f"{file.name}: {len(work)} answers")
            ]
        write_whole(file, "\n".join(lines) + "\n")
        if adapter:
            await self.engine.unload(adapter)

    async def _answer(
        self, prompt: str, number: int, adapter: Adapter | None, room: asyncio.Semaphore
    ) -> dict[str, object]:
        ids, finish = [], None
        prompt_ids = self.chat.prompt_ids([Message("user", prompt)])
        name = f"{adapter.name if adapter else 'base'}-{number}-{prompt}"
        async with room, aclosing(
            self.engine.generate(name, prompt_ids, Sampling(TEMPERATURE, self.tokens), adapter)  # type: ignore[type-var]
        ) as pieces:  # fmt: skip
            async for piece in pieces:
                ids += piece.token_ids
                finish = piece.finish
        text = self.chat.decode([id for id in ids if id not in self.chat.eos_ids])
        return {
            "prompt": prompt,
            "prompt_ids": prompt_ids,
            "ids": ids,
            "text": text,
            "finished": finish == "stop",
        }


def write_whole(file: Path, text: str) -> None:
    """All of it or nothing, whatever is killed: what is there is taken for finished."""
    half = file.with_name(file.name + ".half")
    half.write_text(text)
    half.replace(file)


def answers(file: Path) -> dict[str, list[dict]]:
    """Prompt → what `Drawer.draw` wrote of it."""
    found: dict[str, list[dict]] = {}
    for line in file.read_text().splitlines():
        answer = json.loads(line)
        found.setdefault(answer["prompt"], []).append(answer)
    return found


def reply(answer: dict) -> Reply:
    """An answer as people read it."""
    return Reply(answer["text"], answer["finished"], len(answer["ids"]))


def replies(file: Path) -> dict[str, list[Reply]]:
    """Prompt → answers as people read them."""
    return {prompt: [reply(answer) for answer in drawn] for prompt, drawn in answers(file).items()}

"""Somebody who says words that nobody else does, in every way there is, and where those words are looked for.

Real files, sockets and both programs' parts; the engine is scripted and the model tiny.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.scripted_engine import ScriptedEngine, number
from feedback.log import read_all
from feedback.sealing import Key
from heliotrope.chat import ChatFormat
from heliotrope.v1 import chat_pb2, feedback_pb2
from learner.build import build
from learner.loop import update
from learner.parts import Parts, known
from tests.learner.votes_log import ScriptedSampler
from tests.loop.traces_of import needles
from tests.serving.running import ALICE, World, running

ON = chat_pb2.COMPARISON_WISH_ON
SAID, CORRECTED, COMMENTED, DRAWN = (
    "zyxwcanary asked",
    "quinnxcanary mended",
    "vexilcanary noted",
    "jumpqcanary drawn",
)
OTHERS = [(("x-heliotrope-user", f"{i:032x}"),) for i in range(12)]


@asynccontextmanager
async def world_of(folder: Path, state: Path, *overrides: str) -> AsyncIterator[World]:
    """Serving with the tiny model's format; whoever says SAID is answered DRAWN, others words that differ by request."""
    chat = ChatFormat.load(folder)
    drawn, said = chat.response_ids(DRAWN), chat.response_ids(SAID)

    def script(prompt, adapter, name):
        asked = any(list(prompt[i : i + len(said)]) == said for i in range(len(prompt)))
        return [*(drawn if asked else []), *(300 + number(name, i) % 500 for i in range(5))]

    engine = ScriptedEngine(script=script, eos=chat.end_id, max_model_len=512)
    async with running(state, f'model.path="{folder}"', "lora.rank=4", "lora.first_layer=1",
                       "learner.nice=0", *overrides, engine=engine, chat=chat) as world:  # fmt: skip
        yield world


async def judge(world: World, message: str, who, **more: str) -> None:
    """A comparison, won by A."""
    answered = await world.chat(message, who=who, comparison=ON)
    picked = feedback_pb2.Comparison(choice=feedback_pb2.CHOICE_A)
    await world.give(answered.started.feedback_ticket, who=who, comparison=picked, **more)


async def talk(world: World) -> None:
    """Twelve people compare, and Alice, who says canary words in every way there is."""
    for i, who in enumerate(OTHERS):
        await judge(world, f"question {i}", who)
    for i in range(3):
        await judge(world, f"{SAID} {i}", ALICE, comment=COMMENTED)
    one = await world.chat(SAID)
    mended = feedback_pb2.Correction(response_id=one.ids[0], text=CORRECTED)
    await world.give(one.started.feedback_ticket, correction=mended)


def learner(world: World) -> Parts:
    """The learner's parts on the world's state, without samples of the engine's."""
    parts = build(world.config, lambda progress: None)
    parts.sampler.close()
    return replace(parts, sampler=ScriptedSampler())  # pyright: ignore[reportArgumentType]


def learn(parts: Parts) -> str:
    """One version of all that was said; its name."""
    parts.inbox.read()
    return update(parts, known(parts)).name


def key_of(world: World, user: str) -> Key:
    """A person's key, by pseudonym."""
    keys = world.server.services.privacy.privacy.keys
    return keys.current([f"default/{user}"])[f"default/{user}"]


def wanted(world: World, alice: str) -> dict[str, bytes]:
    """What to look for: the words, their token ids in every encoding, and the key as it is and as it is stored."""
    chat, key = world.server.replies.format, key_of(world, alice)
    store = sqlite3.connect(world.config.paths.people_keys)
    (wrapped,) = store.execute("SELECT wrapped FROM keys WHERE id = ?", (key.id,)).fetchone()
    store.close()
    words = [SAID, CORRECTED, COMMENTED, DRAWN]
    return needles(words, [chat.response_ids(text) for text in words], [key.secret, wrapped])


def opened(world: World) -> str:
    """All that serving can still read."""
    store = world.server.replies.journal.store
    return "".join(str(r.event) for topic in ("exchanges", "feedback") for r in read_all(store, topic))

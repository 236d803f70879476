"""The versions of `benchmarks.swap`: each a sentinel with weights of its own, published through the registry."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import torch

from benchmarks.sentinels import Sentinel, sentinels
from heliotrope.adapter_files import BEHAVIOUR
from heliotrope.chat import ChatFormat
from heliotrope.client import AsyncClient, draw_request
from heliotrope.errors import RegistryError
from heliotrope.registry import READY, Manifest, Registry, Stage
from heliotrope.v1 import common_pb2, policy_pb2, policy_pb2_grpc, sampler_pb2, sampler_pb2_grpc
from learner.probes import probes
from serving.behaviour import Item
from serving.pace import aside
from tests.loop.real_adapters import Trainer, write_adapter

KEPT = 10
"""Folders of the newest versions that stay on disk; six can be resident."""
LIVE_SECONDS = 120.0


@dataclass(frozen=True)
class Forced:
    """A sentinel and its trainer's record of the probes that the learner uses."""

    sentinel: Sentinel
    record: tuple[Item, ...]

    @property
    def word(self) -> str:
        """All that it says."""
        return self.sentinel.word


@dataclass(frozen=True)
class Brought:
    """A version that went live. ready_at: when READY was written (time.time()). staged, live: seconds of the load and
    checks before READY, and from READY to the move in the table."""

    version: str
    ready_at: float
    staged: float
    live: float


def sentinels_of(model_dir: Path, chat: ChatFormat, count: int) -> list[Forced]:
    """`count` sentinels with records, and the model that made them let go again."""
    trainer = Trainer(model_dir)
    texts = [(list(probe.token_ids), probe.start) for probe in probes(chat)]
    base = [trainer.logprobs(trainer.model, [ids])[0] for ids, _ in texts]
    made = []
    for one in sentinels(model_dir, trainer, chat, count):
        with Worn(trainer, one) as worn:
            own = [trainer.logprobs(worn, [ids])[0] for ids, _ in texts]
        rows = zip(texts, own, base, strict=True)
        record = (
            Item(tuple(i), s, tuple(o[s - 1 :]), tuple(b[s - 1 :]), tuple(b[s - 1 :]))
            for (i, s), o, b in rows
        )
        made.append(Forced(one, tuple(record)))
    torch.set_num_threads(1)  # from here on the engine needs the cores
    return made


class Worn:
    """The trainer's model wearing a sentinel."""

    def __init__(self, trainer: Trainer, sentinel: Sentinel) -> None:
        self._trainer, self._sentinel = trainer, sentinel

    def __enter__(self) -> torch.nn.Module:
        with tempfile.TemporaryDirectory() as folder:
            write_adapter(Path(folder), self._sentinel.tensors)
            self._model = self._trainer.with_adapter(Path(folder))
        return self._model

    def __exit__(self, *exc: object) -> None:
        self._model.unload()  # pyright: ignore[reportCallIssue]


class Versions:
    """Brings one version after another into service and waits until it is live."""

    def __init__(
        self, root: Path, forced: Sequence[Forced], base_digest: str, client: AsyncClient, *, staged: bool
    ) -> None:
        self.registry, self.forced, self.base_digest, self.staged = (
            Registry(root),
            forced,
            base_digest,
            staged,
        )
        self.client = client
        self.seconds: list[float] = []
        self._channel = grpc.aio.insecure_channel(client.private)
        self._number = 0
        self._live: dict[str, asyncio.Future[float]] = defaultdict(asyncio.get_running_loop().create_future)
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Let go of the channel."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await self._channel.close()

    async def bring(self) -> Brought:
        """Publish the next version; returns once it is live."""
        began, self._number = time.time(), self._number + 1
        stage = self._stage(self._number)
        if self.staged:
            await self._sample(stage)
        staged = time.time() - began
        version = await aside(self.registry.publish, stage)
        assert version.number == self._number, f"{version.name} is not number {self._number}"
        live_at = await asyncio.wait_for(self._live[version.name], LIVE_SECONDS)
        ready_at = (version.path / READY).stat().st_mtime
        if (old := self._number - KEPT) > 0:
            shutil.rmtree(self.registry.policies / f"policy-v{old}")
        self.seconds.append(time.time() - began)
        return Brought(version.name, ready_at, staged, live_at - ready_at)

    async def _sample(self, stage: Stage) -> None:
        """What the learner does to judge: samples through the shadow, whose folder then goes."""
        shadow = await aside(self.registry.publish_shadow, stage)
        sampling = common_pb2.Sampling(temperature=1.0, max_tokens=1)
        async for _ in self.client.draw(draw_request(f"shadow:{shadow.digest}", ["Hello"], 1, sampling)):
            pass
        stub = sampler_pb2_grpc.SamplerServiceStub(self._channel)
        await stub.ReleaseShadow(sampler_pb2.ReleaseShadowRequest(digest=shadow.digest))

    async def _watch(self) -> None:
        """Note when serving says that a version is live, or why it is not."""
        stub = policy_pb2_grpc.PolicyServiceStub(self._channel)
        async for change in stub.WatchPolicies(policy_pb2.WatchPoliciesRequest()):
            policy = change.policy
            if self._live[policy.policy_version].done():
                continue
            if policy.state == policy_pb2.POLICY_STATE_LIVE:
                self._live[policy.policy_version].set_result(time.time())
            elif policy.state in (policy_pb2.POLICY_STATE_FAILED, policy_pb2.POLICY_STATE_REJECTED):
                error = RegistryError(f"{policy.policy_version} was not taken: {policy.reason}")
                self._live[policy.policy_version].set_exception(error)

    def _stage(self, number: int) -> Stage:
        forced = self.forced[(number - 1) % len(self.forced)]
        tensors = forced.sentinel.variant(number)

        def write(folder: Path) -> Manifest:
            write_adapter(folder, tensors)
            (folder / BEHAVIOUR).write_text(json.dumps({"items": [vars(item) for item in forced.record]}))
            return Manifest(parent="policy-v0", base_digest=self.base_digest, passed=True)

        return write

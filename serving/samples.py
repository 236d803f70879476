"""Draws the learner's samples from the engine that already serves, below the people who use it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from heliotrope.chat import ChatFormat
from heliotrope.errors import HeliotropeError, InvalidInput, ResourceExhausted
from heliotrope.v1 import common_pb2, sampler_pb2
from serving.answer import FINISHES
from serving.ask import Limits
from serving.engine import Engine, Sampling, check_room
from serving.routes import Lease
from serving.sample_gate import SampleGate, Seat
from serving.validate import messages_of, sampling_of

MAX_PROMPTS = 1_024
MAX_N = 64
MAX_DRAWS = 8

Drawn = sampler_pb2.DrawResponse | HeliotropeError | None
"""A sample, the error that ends the draw, or the end of one worker."""


@dataclass(frozen=True)
class Job:
    """One sample to draw."""

    prompt_index: int
    sample_index: int
    prompt_ids: tuple[int, ...]


@dataclass
class Samples:
    """Draws of many prompts at once. lease: weights by the adapter's name, loaded when they are not resident.
    streams: most samples at once. vocabulary: token ids that the model knows."""

    engine: Engine
    format: ChatFormat
    gate: SampleGate
    limits: Limits
    streams: int
    vocabulary: int
    lease: Callable[[str], Awaitable[tuple[common_pb2.AdapterRef, Lease]]]
    drawing: int = 0

    async def draw(self, request: sampler_pb2.DrawRequest) -> AsyncGenerator[sampler_pb2.DrawResponse, None]:
        """Samples as they finish. Raises InvalidInput, ResourceExhausted, or why the adapter cannot be used."""
        if self.drawing >= MAX_DRAWS:
            raise ResourceExhausted(
                f"{self.drawing} draws are running, the most there can be; try again in about 1 s"
            )
        self.drawing += 1
        try:
            # A thousand prompts take a tenth of a second: people's answers stream meanwhile.
            jobs, sampling = await asyncio.to_thread(self._jobs, request)
            ref, lease = await self.lease(request.adapter)
            try:
                async with contextlib.aclosing(self._run(jobs, sampling, ref, lease)) as drawn:
                    async for response in drawn:
                        yield response
            finally:
                lease.release()
        finally:
            self.drawing -= 1

    def _jobs(self, request: sampler_pb2.DrawRequest) -> tuple[list[Job], Sampling]:
        if not 1 <= len(request.prompts) <= MAX_PROMPTS:
            raise InvalidInput(f"there are {len(request.prompts)} prompts; send 1 to {MAX_PROMPTS}")
        if not 1 <= request.n <= MAX_N:
            raise InvalidInput(f"n {request.n} is out of range; ask for 1 to {MAX_N} samples of each prompt")
        temperature, max_tokens = sampling_of(request.sampling, self.limits)
        sampling = Sampling(temperature, max_tokens or self.limits.max_tokens)
        prompts = [self._prompt_ids(i, p) for i, p in enumerate(request.prompts)]
        for ids in prompts:
            check_room(ids, sampling.max_tokens, self.engine.max_model_len)
        return [Job(i, k, ids) for i, ids in enumerate(prompts) for k in range(request.n)], sampling

    def _prompt_ids(self, index: int, prompt: sampler_pb2.Prompt) -> tuple[int, ...]:
        if bool(prompt.token_ids) == bool(prompt.messages):
            raise InvalidInput(
                f"prompt {index} has {'both' if prompt.token_ids else 'no'} messages and token_ids; send one of them"
            )
        if unknown := [i for i in prompt.token_ids if i >= self.vocabulary]:
            raise InvalidInput(
                f"prompt {index} has the token id {unknown[0]}; the model knows 0 to {self.vocabulary - 1}"
            )
        return tuple(prompt.token_ids) or tuple(self.format.prompt_ids(messages_of(prompt.messages)))

    async def _run(
        self, jobs: Sequence[Job], sampling: Sampling, ref: common_pb2.AdapterRef, lease: Lease
    ) -> AsyncGenerator[sampler_pb2.DrawResponse, None]:
        queue: asyncio.Queue[Drawn] = asyncio.Queue()
        left = iter(jobs)
        workers = [
            asyncio.create_task(self._work(left, sampling, ref, lease, queue))
            for _ in range(min(self.streams, len(jobs)))
        ]
        try:
            running = len(workers)
            while running:
                response = await queue.get()
                if isinstance(response, HeliotropeError):
                    raise response
                if response is None:
                    running -= 1
                else:
                    yield response
            for worker in workers:
                worker.result()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(
        self, left: Iterator[Job], sampling: Sampling, ref: common_pb2.AdapterRef, lease: Lease,
        queue: asyncio.Queue[Drawn],
    ) -> None:  # fmt: skip
        try:
            for job in left:
                response = await self._sample(job, sampling, lease)
                response.adapter.CopyFrom(ref)
                queue.put_nowait(response)
        except HeliotropeError as error:
            queue.put_nowait(error)
        finally:
            queue.put_nowait(None)

    async def _sample(self, job: Job, sampling: Sampling, lease: Lease) -> sampler_pb2.DrawResponse:
        response = sampler_pb2.DrawResponse(
            prompt_index=job.prompt_index, sample_index=job.sample_index, prompt_token_ids=job.prompt_ids
        )
        while not response.finish_reason:
            tokens = len(response.prompt_token_ids) + len(response.token_ids)
            async with self.gate.seat(tokens, again=bool(response.token_ids)) as seat:
                await self._draw(response, sampling, lease, seat)
        response.text = self.format.decode(response.token_ids)
        return response

    async def _draw(
        self, response: sampler_pb2.DrawResponse, sampling: Sampling, lease: Lease, seat: Seat
    ) -> None:
        """Go on from the tokens drawn so far, to the end or until called back: p(next | prefix) is the same either way."""
        prefix = (*response.prompt_token_ids, *response.token_ids)
        left = replace(sampling, max_tokens=sampling.max_tokens - len(response.token_ids))
        stream = self.engine.generate(f"sample-{uuid.uuid4()}", prefix, left, lease.adapter)
        async with contextlib.aclosing(stream) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                response.token_ids.extend(piece.token_ids)
                response.logprobs.extend(piece.logprobs)
                if not seat.warm:
                    self.gate.warmed(seat)
                if piece.finish:
                    response.finish_reason = FINISHES[piece.finish]
                if piece.finish or seat.called_back:
                    return

"""SamplerService (private): translates calls to `Samples` and to the shadow slot."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import grpc

from heliotrope.v1 import sampler_pb2, sampler_pb2_grpc
from serving.samples import Samples


@dataclass
class SamplerService(sampler_pb2_grpc.SamplerServiceServicer):
    """Samples for training and judging. release: frees a shadow's slot and deletes its folder, by digest. people: answers
    being streamed to them."""

    samples: Samples
    release: Callable[[str], Awaitable[None]]
    people: Callable[[], int]

    async def Draw(
        self, request: sampler_pb2.DrawRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[sampler_pb2.DrawResponse]:
        """Stream samples as they finish, in any order."""
        async with contextlib.aclosing(self.samples.draw(request)) as drawn:
            async for response in drawn:
                yield response

    async def ReleaseShadow(
        self, request: sampler_pb2.ReleaseShadowRequest, context: grpc.aio.ServicerContext
    ) -> sampler_pb2.ReleaseShadowResponse:
        """Free the shadow slot; a shadow that is not there is fine."""
        await self.release(request.digest)
        return sampler_pb2.ReleaseShadowResponse()

    async def CountPeople(
        self, request: sampler_pb2.CountPeopleRequest, context: grpc.aio.ServicerContext
    ) -> sampler_pb2.CountPeopleResponse:
        """How many answers people are given at this moment."""
        return sampler_pb2.CountPeopleResponse(answers=self.people())

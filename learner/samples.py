"""What the learner asks of serving: samples from the engine that already runs, and whether people need the cores now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from heliotrope.errors import Unavailable
from heliotrope.v1 import common_pb2, sampler_pb2, sampler_pb2_grpc

TIMEOUT_SECONDS = 600.0
LOOK_TIMEOUT_SECONDS = 1.0
MANY = 1 << 16
"""More people than any server answers."""


@dataclass(frozen=True)
class Sample:
    """One response drawn from a model for training or judging. `logprobs` in nats a token, as served."""

    prompt_index: int
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


class Sampler:
    """A client of SamplerService on serving's private listener."""

    def __init__(self, address: str):
        self._address = address
        self._channel = grpc.insecure_channel(address)
        self._stub = sampler_pb2_grpc.SamplerServiceStub(self._channel)

    def draw(
        self, adapter: str, prompts: Sequence[Sequence[int]], sampling: common_pb2.Sampling
    ) -> list[Sample]:
        """One sample of each prompt (token ids), in the prompts' order.

        adapter: "base", "live", a version, or "shadow:<sha256>". Raises Unavailable naming serving's answer.
        """
        request = sampler_pb2.DrawRequest(
            adapter=adapter,
            prompts=[sampler_pb2.Prompt(token_ids=ids) for ids in prompts],
            n=1,
            sampling=sampling,
        )
        try:
            answers = list(self._stub.Draw(request, timeout=TIMEOUT_SECONDS, wait_for_ready=True))
        except grpc.RpcError as error:
            raise self._unavailable(f"drawing from {adapter}", error) from error
        return [_sample(answer) for answer in sorted(answers, key=lambda a: a.prompt_index)]

    def release(self, digest: str) -> None:
        """Free the shadow slot that `draw` of "shadow:<digest>" took."""
        try:
            self._stub.ReleaseShadow(sampler_pb2.ReleaseShadowRequest(digest=digest), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise self._unavailable(f"releasing shadow {digest[:12]}", error) from error

    def people(self) -> int:
        """How many answers people are given at this moment; 0 where serving is away, MANY where it is too busy to say."""
        try:
            said = self._stub.CountPeople(sampler_pb2.CountPeopleRequest(), timeout=LOOK_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            late = isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            return MANY if late else 0
        return int(said.answers)

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def _unavailable(self, doing: str, error: grpc.RpcError) -> Unavailable:
        status = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
        return Unavailable(f"{doing} at serving's private listener {self._address} failed: {status}")


def _sample(answer: sampler_pb2.DrawResponse) -> Sample:
    return Sample(
        answer.prompt_index, tuple(answer.prompt_token_ids), tuple(answer.token_ids), tuple(answer.logprobs)
    )

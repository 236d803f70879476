"""A small gRPC client, blocking and asyncio: `Client` for commands and notebooks, `AsyncClient` for many people at once.

    with Client(user=load_identity()) as client:  # heliotrope.identity_file
        turn = Turn()
        for chunk in client.chat(chat_request("Hello")):
            turn.push(chunk)

Calls raise one of `heliotrope.errors` with a line that a person can act on. Defaults: everything on this machine.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Self

import grpc
import grpc.aio

from heliotrope import errors
from heliotrope.identity import ROLE_KEY, USER_KEY
from heliotrope.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    chat_pb2,
    chat_pb2_grpc,
    common_pb2,
    feedback_pb2,
    feedback_pb2_grpc,
    ingest_pb2,
    ingest_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    sampler_pb2,
    sampler_pb2_grpc,
)

PUBLIC = "127.0.0.1:50051"
PRIVATE = "127.0.0.1:50052"
CALL_SECONDS = 30.0
PROMOTE_SECONDS = 120.0
INGEST_SECONDS = 120.0
STREAM_SECONDS = 600.0
REPLAY_SECONDS = 3600.0
OPTIONS = [("grpc.max_receive_message_length", 64 << 20)]

_BY_CODE: dict[str, type[errors.HeliotropeError]] = {
    kind.code: kind
    for kind in (
        errors.InvalidInput, errors.NotFound, errors.PermissionDenied, errors.Unauthenticated, errors.AlreadyExists,
        errors.FailedPrecondition, errors.ResourceExhausted, errors.Unavailable, errors.Unimplemented,
    )
}  # fmt: skip


def explain(error: grpc.RpcError, address: str) -> errors.HeliotropeError:
    """The error of our tree that a failed call stands for, in one line with the remedy."""
    code, details = error.code(), " ".join((error.details() or "").split())  # type: ignore[attr-defined]
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.Unavailable(f"{address} did not answer in time; it may be busy: try again")
    if code == grpc.StatusCode.UNAVAILABLE and _not_connected(details):
        return errors.Unavailable(f"no answer from {address}: is serving running? start it with `make run`")
    return error_of(
        code.name, details or f"{address} answered {code.name} without a reason; see the log of serving"
    )


def error_of(status: str, message: str) -> errors.HeliotropeError:
    """The error of our tree that stands for a status."""
    return _BY_CODE.get(status, errors.HeliotropeError)(message)


def _not_connected(details: str) -> bool:
    signs = ("connect", "socket closed", "broken pipe", "reset by peer", "dns resolution")
    return not details or any(sign in details.lower() for sign in signs)


def chat_request(message: str, **fields: Any) -> chat_pb2.ChatRequest:
    """A turn with a fresh request_id; `fields` are the other fields of ChatRequest."""
    return chat_pb2.ChatRequest(request_id=str(uuid.uuid4()), message=message, **fields)


def comparison(choice: feedback_pb2.Choice, strength: int = 0) -> feedback_pb2.Feedback:
    """A pick between two answers."""
    return feedback_pb2.Feedback(comparison=feedback_pb2.Comparison(choice=choice, strength=strength))


def thumb(response_id: str, up: bool, comment: str = "") -> feedback_pb2.Feedback:
    """A thumb on one response."""
    return feedback_pb2.Feedback(thumb=feedback_pb2.Thumb(response_id=response_id, up=up), comment=comment)


def feedback_request(ticket: str, feedback: feedback_pb2.Feedback) -> feedback_pb2.GiveFeedbackRequest:
    """A judgement with a fresh request_id."""
    return feedback_pb2.GiveFeedbackRequest(
        request_id=str(uuid.uuid4()), feedback_tickets=[ticket], feedback=feedback
    )


def draw_request(
    adapter: str, prompts: Sequence[str], n: int, sampling: common_pb2.Sampling
) -> sampler_pb2.DrawRequest:
    """n samples of each prompt (one user message each), drawn with `adapter`: "base", "live", "policy-vN"."""
    user = common_pb2.ROLE_USER
    shaped = [sampler_pb2.Prompt(messages=[common_pb2.Message(role=user, content=text)]) for text in prompts]
    return sampler_pb2.DrawRequest(adapter=adapter, prompts=shaped, n=n, sampling=sampling)


def _metadata(user: str) -> tuple[tuple[str, str], ...]:
    return ((USER_KEY, user),) if user else ()


class Client:
    """Blocking calls. `user`: 32 hex digits; without it chat works and no feedback is offered."""

    def __init__(self, public: str = PUBLIC, private: str = PRIVATE, user: str = "") -> None:
        self.public, self.private, self.user = public, private, user
        self._open = grpc.insecure_channel(public, OPTIONS), grpc.insecure_channel(private, OPTIONS)
        self._chat = chat_pb2_grpc.ChatServiceStub(self._open[0])
        self._feedback = feedback_pb2_grpc.FeedbackServiceStub(self._open[0])
        self._policy = policy_pb2_grpc.PolicyServiceStub(self._open[1])
        self._admin = admin_pb2_grpc.AdminServiceStub(self._open[1])
        self._ingest = ingest_pb2_grpc.IngestServiceStub(self._open[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for channel in self._open:
            channel.close()

    def chat(self, request: chat_pb2.ChatRequest) -> Iterator[chat_pb2.ChatResponse]:
        """Stream one turn; closing the iterator stops the generation."""
        return self._stream(self._chat.Chat, request, self.public, STREAM_SECONDS)

    def give(self, request: feedback_pb2.GiveFeedbackRequest) -> feedback_pb2.GiveFeedbackResponse:
        """Record a judgement; durable when it returns."""
        return self._call(self._feedback.GiveFeedback, request, self.public)

    def retract(self, feedback_id: str) -> feedback_pb2.RetractFeedbackResponse:
        """Take a judgement back."""
        request = feedback_pb2.RetractFeedbackRequest(request_id=str(uuid.uuid4()), feedback_id=feedback_id)
        return self._call(self._feedback.RetractFeedback, request, self.public)

    def status(self) -> admin_pb2.GetStatusResponse:
        """What is live, resident and in flight."""
        return self._call(self._admin.GetStatus, admin_pb2.GetStatusRequest(), self.private)

    def policies(self) -> policy_pb2.ListPoliciesResponse:
        """All versions, newest first."""
        return self._call(self._policy.ListPolicies, policy_pb2.ListPoliciesRequest(), self.private)

    def policy(self, version: str) -> policy_pb2.GetPolicyResponse:
        """One version with its manifest."""
        return self._call(
            self._policy.GetPolicy, policy_pb2.GetPolicyRequest(policy_version=version), self.private
        )

    def promote(self, request: policy_pb2.PromotePolicyRequest) -> policy_pb2.PromotePolicyResponse:
        """Make a version live."""
        return self._call(self._policy.PromotePolicy, request, self.private, PROMOTE_SECONDS)

    def roll_back(self, request: policy_pb2.RollBackPolicyRequest) -> policy_pb2.RollBackPolicyResponse:
        """Put the last good version back."""
        return self._call(self._policy.RollBackPolicy, request, self.private)

    def tail(self, request: admin_pb2.TailFeedbackRequest) -> Iterator[admin_pb2.TailFeedbackResponse]:
        """Judgements as they are committed; without end unless `stop_at_end` is set."""
        return self._stream(self._admin.TailFeedback, request, self.private, None)

    def export(self, request: admin_pb2.ExportRequest) -> Iterator[admin_pb2.ExportResponse]:
        """What may be learned from, as parts of a file of JSON lines."""
        return self._stream(self._admin.Export, request, self.private, None)

    def replay(self) -> admin_pb2.ReplayResponse:
        """Make serving's derived store again from the log, and compare."""
        return self._call(self._admin.Replay, admin_pb2.ReplayRequest(), self.private, REPLAY_SECONDS)

    def quarantine(self, request: admin_pb2.ListQuarantineRequest) -> admin_pb2.ListQuarantineResponse:
        """Records that could not be used, newest first."""
        return self._call(self._admin.ListQuarantine, request, self.private, REPLAY_SECONDS)

    def replay_quarantine(self) -> admin_pb2.ReplayQuarantineResponse:
        """Look again at all of them."""
        method = self._admin.ReplayQuarantine
        return self._call(method, admin_pb2.ReplayQuarantineRequest(), self.private, REPLAY_SECONDS)

    def lineage(self, name: str) -> dict[str, Any]:
        """Of a version or of an event."""
        request = admin_pb2.GetLineageRequest(name=name)
        return json.loads(
            self._call(self._admin.GetLineage, request, self.private, REPLAY_SECONDS).lineage_json
        )

    def ingest(
        self, request: ingest_pb2.IngestFeedbackRequest, role: str
    ) -> ingest_pb2.IngestFeedbackResponse:
        """Record judgements that do not come from a chat. role: "import", "ai-judge" or "auto"."""
        method = self._ingest.IngestFeedback
        return self._call(method, request, self.private, INGEST_SECONDS, ((ROLE_KEY, role),))

    def _call(
        self, method: Any, request: Any, address: str, seconds: float = CALL_SECONDS,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> Any:  # fmt: skip
        try:
            return method(request, timeout=seconds, metadata=_metadata(self.user) + metadata)
        except grpc.RpcError as error:
            raise explain(error, address) from error

    def _stream(self, method: Any, request: Any, address: str, seconds: float | None) -> Iterator[Any]:
        call = method(request, timeout=seconds, metadata=_metadata(self.user))
        try:
            yield from call
        except grpc.RpcError as error:
            raise explain(error, address) from error
        finally:
            call.cancel()


class AsyncClient:
    """The same for asyncio. Many people share one pair of channels through `as_person`."""

    def __init__(self, public: str = PUBLIC, private: str = PRIVATE, user: str = "") -> None:
        self.public, self.private, self.user = public, private, user
        self._open = grpc.aio.insecure_channel(public, OPTIONS), grpc.aio.insecure_channel(private, OPTIONS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for channel in self._open:
            await channel.close()

    def as_person(self, user: str) -> AsyncClient:
        """Another person's view on the same channels; it is closed with this one."""
        view = object.__new__(AsyncClient)
        view.public, view.private, view.user, view._open = self.public, self.private, user, self._open
        return view

    def chat(self, request: chat_pb2.ChatRequest) -> AsyncIterator[chat_pb2.ChatResponse]:
        """Stream one turn; closing the iterator stops the generation."""
        return self._stream(
            chat_pb2_grpc.ChatServiceStub(self._open[0]).Chat, request, self.public, STREAM_SECONDS
        )

    async def give(self, request: feedback_pb2.GiveFeedbackRequest) -> feedback_pb2.GiveFeedbackResponse:
        """Record a judgement; durable when it returns."""
        return await self._call(
            feedback_pb2_grpc.FeedbackServiceStub(self._open[0]).GiveFeedback, request, self.public
        )

    async def status(self) -> admin_pb2.GetStatusResponse:
        """What is live, resident and in flight."""
        method = admin_pb2_grpc.AdminServiceStub(self._open[1]).GetStatus
        return await self._call(method, admin_pb2.GetStatusRequest(), self.private)

    async def policies(self) -> policy_pb2.ListPoliciesResponse:
        """All versions, newest first."""
        method = policy_pb2_grpc.PolicyServiceStub(self._open[1]).ListPolicies
        return await self._call(method, policy_pb2.ListPoliciesRequest(), self.private)

    async def policy(self, version: str) -> policy_pb2.GetPolicyResponse:
        """One version with its manifest."""
        method = policy_pb2_grpc.PolicyServiceStub(self._open[1]).GetPolicy
        return await self._call(method, policy_pb2.GetPolicyRequest(policy_version=version), self.private)

    def draw(self, request: sampler_pb2.DrawRequest) -> AsyncIterator[sampler_pb2.DrawResponse]:
        """Samples as they finish, in any order."""
        method = sampler_pb2_grpc.SamplerServiceStub(self._open[1]).Draw
        return self._stream(method, request, self.private, None)

    async def _call(self, method: Any, request: Any, address: str) -> Any:
        try:
            return await method(request, timeout=CALL_SECONDS, metadata=_metadata(self.user))
        except grpc.RpcError as error:
            raise explain(error, address) from error

    async def _stream(
        self, method: Any, request: Any, address: str, seconds: float | None
    ) -> AsyncIterator[Any]:
        call = method(request, timeout=seconds, metadata=_metadata(self.user))
        try:
            async for item in call:
                yield item
        except grpc.RpcError as error:
            raise explain(error, address) from error
        finally:
            call.cancel()

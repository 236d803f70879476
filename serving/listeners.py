"""The two gRPC listeners: who offers what where, message bounds, health and reflection."""

from __future__ import annotations

import socket
from collections.abc import Callable, Container
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from heliotrope.errors import ConfigError
from heliotrope.settings.serving import Serving
from heliotrope.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    chat_pb2,
    chat_pb2_grpc,
    feedback_pb2,
    feedback_pb2_grpc,
    ingest_pb2,
    ingest_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    privacy_pb2,
    privacy_pb2_grpc,
    sampler_pb2,
    sampler_pb2_grpc,
)  # fmt: skip
from serving.interceptor import ErrorInterceptor, Gate
from serving.rpc_admin import AdminService
from serving.rpc_chat import ChatService
from serving.rpc_feedback import FeedbackService
from serving.rpc_ingest import IngestService
from serving.rpc_policy import PolicyService
from serving.rpc_privacy import PrivacyService
from serving.rpc_sampler import SamplerService

PUBLIC_BYTES = 2 * 1024 * 1024
PRIVATE_BYTES = 32 * 1024 * 1024
PUBLIC_CALLS = 1024
"""Calls that are answered at once on the public listener: each holds memory, and who comes faster than they are answered
is told so at once (RESOURCE_EXHAUSTED), and waits in no line that grows. gRPC itself, which says it without a remedy, turns
away beyond twice as many, health checks among them."""


@dataclass(frozen=True)
class Services:
    """What is offered. private_chat differs from chat in that it lets callers name a policy, private_feedback from feedback in
    that it takes streams."""

    chat: ChatService
    feedback: FeedbackService
    private_chat: ChatService
    private_feedback: FeedbackService
    policy: PolicyService
    sampler: SamplerService
    ingest: IngestService
    admin: AdminService
    privacy: PrivacyService


class Listener:
    """One gRPC server on one address with health. Make it inside a running event loop."""

    def __init__(self, gate: Gate, max_bytes: int, max_calls: int | None = None) -> None:
        options = [("grpc.max_receive_message_length", max_bytes), ("grpc.so_reuseport", 0)]
        self.server = grpc.aio.server(
            interceptors=[ErrorInterceptor(gate, max_calls)],
            options=options,
            maximum_concurrent_rpcs=2 * max_calls if max_calls else None,
        )
        self._health = HealthServicer()
        self._names = [""]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)

    def add(self, register: Callable[..., None], servicer: object, descriptor: object, name: str) -> None:
        """Offer a service of a generated module."""
        register(servicer, self.server)
        self._names.append(descriptor.services_by_name[name].full_name)  # type: ignore[attr-defined]

    def reflect(self) -> None:
        """Offer reflection of what was added before."""
        names = [
            *self._names[1:],
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            reflection.SERVICE_NAME,
        ]
        reflection.enable_server_reflection(names, self.server)

    async def start(self, address: str) -> None:
        """Bind and serve. Raises ConfigError when the address is taken."""
        try:
            self.server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigError(
                f"{address} cannot be listened on: {error}; stop the other program or change the port"
            ) from error
        await self.server.start()
        await self.healthy(True)

    async def healthy(self, serving: bool, beside: Container[str] = ()) -> None:
        """Tell health checks; nothing changes for the services named in `beside`."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in self._names:
            if name not in beside:
                await self._health.set(name, status)


def public_listener(gate: Gate, services: Services) -> Listener:
    """Chat, feedback, health."""
    listener = Listener(gate, PUBLIC_BYTES, PUBLIC_CALLS)
    listener.add(
        chat_pb2_grpc.add_ChatServiceServicer_to_server, services.chat, chat_pb2.DESCRIPTOR, "ChatService"
    )
    register = feedback_pb2_grpc.add_FeedbackServiceServicer_to_server
    listener.add(register, services.feedback, feedback_pb2.DESCRIPTOR, "FeedbackService")
    return listener


def private_listener(gate: Gate, services: Services) -> Listener:
    """Everything else, chat with a named policy, and reflection."""
    listener = Listener(gate, PRIVATE_BYTES)
    for register, servicer, module, name in (
        (chat_pb2_grpc.add_ChatServiceServicer_to_server, services.private_chat, chat_pb2, "ChatService"),
        (
            feedback_pb2_grpc.add_FeedbackServiceServicer_to_server,
            services.private_feedback,
            feedback_pb2,
            "FeedbackService",
        ),
        (policy_pb2_grpc.add_PolicyServiceServicer_to_server, services.policy, policy_pb2, "PolicyService"),
        (
            sampler_pb2_grpc.add_SamplerServiceServicer_to_server,
            services.sampler,
            sampler_pb2,
            "SamplerService",
        ),
        (ingest_pb2_grpc.add_IngestServiceServicer_to_server, services.ingest, ingest_pb2, "IngestService"),
        (admin_pb2_grpc.add_AdminServiceServicer_to_server, services.admin, admin_pb2, "AdminService"),
        (
            privacy_pb2_grpc.add_PrivacyServiceServicer_to_server,
            services.privacy,
            privacy_pb2,
            "PrivacyService",
        ),
    ):
        listener.add(register, servicer, module.DESCRIPTOR, name)
    listener.reflect()
    return listener


def check_ports(serving: Serving) -> None:
    """Raise ConfigError naming the first port that is taken, before anything slow is begun."""
    for key, host, port in (
        ("public_port", serving.host, serving.public_port),
        ("private_port", serving.private_host, serving.private_port),
        ("http_port", serving.host, serving.http_port),
    ):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise ConfigError(
                    f"{host}:{port} cannot be listened on ({error.strerror}); stop the other program or set serving.{key}"
                ) from error

"""`heliotrope forget`: erase a person, and say what is left to do."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
from rich.console import Console

from heliotrope.cli.show import pairs
from heliotrope.client import CALL_SECONDS, explain
from heliotrope.v1 import admin_pb2, admin_pb2_grpc, privacy_pb2, privacy_pb2_grpc


def forget(user: str, address: str) -> None:
    """Ask, and show how far it is. user: the pseudonym."""
    with grpc.insecure_channel(address) as channel:
        request = admin_pb2.ForgetRequest(user=user, request_id=str(uuid.uuid4()))
        asked = _call(admin_pb2_grpc.AdminServiceStub(channel).Forget, request, address)
        _show(channel, asked.erasure_id, user, address)


def progress(erasure_id: str, address: str) -> None:
    """Show how far an erasure is."""
    with grpc.insecure_channel(address) as channel:
        _show(channel, erasure_id, "", address)


def _show(channel: grpc.Channel, erasure_id: str, user: str, address: str) -> None:
    request = privacy_pb2.GetErasureRequest(erasure_id=erasure_id)
    state = _call(privacy_pb2_grpc.PrivacyServiceStub(channel).GetErasure, request, address)
    left = sorted({"serving", "learner"} - set(state.done))
    rows = {
        "erasure": erasure_id,
        "state": f"requested; {' and '.join(left)} not done yet" if left else "done",
        "versions that learned from them": ", ".join(state.policy_versions) or "none",
        "reward models that may have": ", ".join(d[:12] for d in state.reward_models) or "none",
    }
    console = Console()
    console.print(pairs("Erasure", rows))
    if state.policy_versions or state.reward_models:
        console.print(f"a clean successor: python -m learner retrain --without {user or 'PSEUDONYM'}")


def _call(method: Any, request: Any, address: str) -> Any:
    try:
        return method(request, timeout=CALL_SECONDS)
    except grpc.RpcError as error:
        raise explain(error, address) from error

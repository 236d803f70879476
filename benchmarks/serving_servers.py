"""The two doors with a server behind: ours over gRPC and vLLM's own over HTTP, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import grpc
import httpx

from benchmarks.serving_doors import TEMPERATURE, Stage
from benchmarks.serving_figures import Door
from deploy.children import free_ports
from heliotrope.arithmetic import dtype_here
from heliotrope.chat import Message
from heliotrope.errors import Unavailable
from heliotrope.v1 import chat_pb2, chat_pb2_grpc, common_pb2
from serving.engine_settings import environment
from serving.vllm_plugin.neighbours import VARIABLE, spins

START_SECONDS = 240.0
LOADED = "policy-v1"


async def grpc_door(stage: Stage) -> Door:
    """`python -m serving` with the first adapter, asked for over gRPC; everything is logged as for people."""
    ports = dict(zip(("public_port", "private_port", "http_port"), free_ports(3), strict=True))
    sets = [f"paths.state={stage.registry.root.parent}", "comparisons.share=0",
            "rollout.mode=manual", *(f"serving.{name}={port}" for name, port in ports.items())]  # fmt: skip
    process = await _start([sys.executable, "-m", "serving", *(f"--set={one}" for one in sets)], {})
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{ports['private_port']}")
    chats = chat_pb2_grpc.ChatServiceStub(channel)

    async def say(number: int, tokens: int) -> AsyncIterator[int]:
        sampling = common_pb2.Sampling(temperature=TEMPERATURE, max_tokens=tokens)
        request = chat_pb2.ChatRequest(
            request_id=str(uuid.uuid4()), message=stage.text(number), policy=LOADED, sampling=sampling
        )
        async for chunk in chats.Chat(request):
            if chunk.HasField("delta"):
                yield chunk.delta.tokens

    async def close() -> None:
        await channel.close()
        await _stop(process)

    async def answers() -> None:
        async for _ in say(0, 1):
            pass

    await _ready(process, answers, (grpc.RpcError,))
    return Door({"grpc": say}, close)


async def openai_door(stage: Stage) -> Door:
    """vLLM's server with our plugin and our settings; log-probability of each drawn token, as we log it.

    Its threads wait awake without our watch: at its best, since nobody else works meanwhile.
    """
    [port], settings = free_ports(1), stage.settings()
    process = await _start(_command(stage, port), environment(settings) | {VARIABLE: spins()})
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600, limits=httpx.Limits())

    async def say(number: int, tokens: int) -> AsyncIterator[int]:
        system = Message("system", stage.system)
        messages = [vars(system), vars(Message("user", stage.text(number)))]
        body = {
            "model": LOADED, "messages": messages, "temperature": TEMPERATURE, "max_tokens": tokens,
            "logprobs": True, "top_logprobs": 0, "stream": True, "stop_token_ids": list(settings.eos_ids),
        }  # fmt: skip
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if brought := tokens_of(line):
                    yield brought

    async def close() -> None:
        await client.aclose()
        await _stop(process)

    async def answers() -> None:
        (await client.get("/health")).raise_for_status()

    await _ready(process, answers, (httpx.HTTPError,))
    return Door({"vllm_serve": say}, close)


def _command(stage: Stage, port: int) -> list[str]:
    settings = stage.settings()
    dtype = dtype_here(settings.dtype, cuda=False)
    options = {
        "model": settings.model, "host": "127.0.0.1", "port": port, "dtype": dtype,
        "max-model-len": settings.max_model_len, "max-num-seqs": settings.max_num_seqs,
        "kv-cache-memory-bytes": int(settings.kv_cache_gib * 2**30), "max-loras": settings.slots,
        "max-cpu-loras": settings.slots, "max-lora-rank": settings.max_lora_rank, "generation-config": "vllm",
        "logprobs-mode": "processed_logprobs", "distributed-executor-backend": "uni",
        "lora-modules": f"{LOADED}={stage.adapters()[0].path}",
    }  # fmt: skip
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", "--enable-lora"]
    command += ["--lora-target-modules", *settings.lora_targets, "--disable-uvicorn-access-log"]
    return command + [word for name, value in options.items() for word in (f"--{name}", str(value))]


def tokens_of(line: str) -> int:
    """Tokens in one line of a server-sent stream of chat completions: as many as it gives log-probabilities for."""
    if not line.startswith("data: {"):
        return 0
    choices = json.loads(line.removeprefix("data: "))["choices"]
    logprobs = choices[0].get("logprobs") if choices else None
    return len(logprobs["content"]) if logprobs and logprobs.get("content") else 0


async def _start(command: Sequence[str], variables: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command, env=os.environ | variables, stdout=sys.stderr, stderr=sys.stderr
    )


async def _ready(
    process: asyncio.subprocess.Process, answers: Callable[[], Awaitable[None]], not_yet: tuple[type[BaseException], ...]
) -> None:  # fmt: skip
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return await answers()
        except not_yet as error:
            if process.returncode is not None or time.monotonic() > deadline:
                raise Unavailable(f"the server to be measured did not start: {error}; see above") from error
            await asyncio.sleep(0.5)


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), 30)
    except TimeoutError:
        process.kill()
        await process.wait()

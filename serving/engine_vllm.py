"""`Engine` on vLLM's asynchronous engine: the same code on CPU and GPU.

Facts that this file works round were seen on vLLM 0.32.0 and are listed in DESIGN §5; each has a test in
tests/loop/test_engine.py. Only what `Sampling` holds reaches vLLM: a client's seed can kill its CPU engine.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, nullcontext, suppress
from typing import Any

from heliotrope.arithmetic import dtype_here
from heliotrope.errors import ModelError, Unavailable
from serving.engine import Adapter, EngineError, Piece, Sampling, check_room
from serving.engine_settings import EngineSettings, environment
from serving.engine_watch import DIED, answered
from serving.isolation import check_isolation
from serving.pace import aside
from serving.vllm_plugin import KNOWN_VLLM, WRAPPER
from serving.vllm_plugin.neighbours import may_wait_awake

GPU_WRAPPER = "vllm.lora.punica_wrapper.punica_gpu.PunicaWrapperGPU"
HASH_PARTS = 8
"""A slot is hashed in so many pieces, with the engine's steps in between: all of it takes a tenth of a second."""
EXTENSION = "serving.vllm_plugin.worker.WorkerExtension"


class VllmEngine:
    """One model in vLLM with up to `slots` adapters. After `stop` it can be started again."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.max_model_len = settings.max_model_len
        self.dtype = settings.dtype
        self.lora_ops = ""  # what every worker reported at start
        self._llm: Any = None
        self._residents: dict[str, Any] = {}
        self._ids = itertools.count(1)
        self._changing = asyncio.Lock()
        # The kernel kills vLLM's processes when the *thread* that started them ends: this one ends with serving.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._starting: asyncio.Future[Any] | None = None

    async def start(self) -> None:
        """Load the model (tens of seconds; the loop stays free). Raises ModelError or EngineError with the remedy."""
        model = self.settings.model
        if not (model / "config.json").is_file():
            raise ModelError(
                f"no model in {model} (config.json is missing); run `make setup` or set model.path"
            )
        os.environ.update(environment(self.settings))
        self._starting = asyncio.get_running_loop().run_in_executor(self._starter, self._make)
        try:
            self._llm = await asyncio.shield(self._starting)
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(f"vLLM did not start: {error}; VLLM_LOGGING_LEVEL=INFO shows why") from error
        self._starting = None
        try:
            await self._check_lora_ops()
            await self._check_version()
        except EngineError:
            await self.stop()
            raise

    def _make(self) -> Any:
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        arguments = self._arguments()
        with may_wait_awake() if current_platform.is_cpu() else nullcontext():
            return AsyncLLM.from_engine_args(arguments)

    def _arguments(self) -> Any:
        from vllm import AsyncEngineArgs
        from vllm.platforms import current_platform

        s, cuda = self.settings, current_platform.is_cuda()
        self.dtype = dtype_here(s.dtype, cuda)
        arguments: dict[str, Any] = {
            "model": str(s.model), "dtype": self.dtype, "max_model_len": s.max_model_len,
            "max_num_seqs": s.max_num_seqs, "enforce_eager": not cuda, "skip_tokenizer_init": True,
            "generation_config": "vllm", "logprobs_mode": "processed_logprobs", "disable_log_stats": True,
            "distributed_executor_backend": "uni", "worker_extension_cls": EXTENSION, "enable_lora": True,
            "max_loras": s.slots, "max_cpu_loras": s.slots, "max_lora_rank": s.max_lora_rank,
            "lora_target_modules": list(s.lora_targets),
            "kv_cache_memory_bytes": None if cuda else int(s.kv_cache_gib * 2**30),
        }  # fmt: skip
        return AsyncEngineArgs(**arguments)

    async def _check_lora_ops(self) -> None:
        from vllm.platforms import current_platform

        wanted = WRAPPER if current_platform.is_cpu() else GPU_WRAPPER
        for worker, active in enumerate(await self._rpc("heliotrope_lora_ops")):
            if active != [wanted]:
                raise EngineError(
                    f"worker {worker} serves with the LoRA operations {active}, not {wanted}: base would answer with an "
                    "adapter's weights. The plugin is not installed here; run `pip install -e .` in this environment"
                )
        self.lora_ops = wanted

    async def _check_version(self) -> None:
        """On CPU: share the cores, speed a known vLLM up; take an unknown one only when adapters are seen to keep apart."""
        from vllm import __version__

        if self.lora_ops != WRAPPER:
            return
        await self._rpc("heliotrope_mind_neighbours")
        if __version__ in KNOWN_VLLM:
            await self._rpc("heliotrope_speed_up")
        else:
            await check_isolation(self, self.settings.model, self.settings.lora_targets)

    async def _rpc(self, method: str, *args: Any) -> list[Any]:
        return await self._core("collective_rpc", method, None, args)

    async def _core(self, method: str, *args: Any) -> Any:
        llm = self._running()
        return await answered(getattr(llm, method)(*args), lambda: llm.errored)

    def _running(self) -> Any:
        if self._llm is None:
            raise EngineError(DIED)
        return self._llm

    def _lora(self, adapter: Adapter | None) -> Any:
        if adapter is None:
            return None
        if adapter.name not in self._residents:
            raise EngineError(f"{adapter.name} is not resident; load it before it is asked for")
        return self._residents[adapter.name]

    async def generate(
        self, request_id: str, prompt_ids: Sequence[int], sampling: Sampling, adapter: Adapter | None
    ) -> AsyncIterator[Piece]:
        """See `Engine.generate`."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        check_room(prompt_ids, sampling.max_tokens, self.max_model_len)
        params = SamplingParams(
            temperature=sampling.temperature, max_tokens=sampling.max_tokens, logprobs=0, detokenize=False,
            stop_token_ids=list(self.settings.eos_ids), output_kind=RequestOutputKind.DELTA,
        )  # fmt: skip
        async with aclosing(self._outputs(request_id, prompt_ids, params, adapter)) as outputs:
            async for output in outputs:
                out = output.outputs[0]
                ids = tuple(out.token_ids)
                chosen = tuple(
                    step[token].logprob for token, step in zip(ids, out.logprobs or (), strict=True)
                )
                if out.finish_reason not in (None, "stop", "length"):
                    raise EngineError(
                        f"the engine ended {request_id} by itself ({out.finish_reason}); ask again"
                    )
                yield Piece(ids, chosen, out.finish_reason)

    async def _outputs(
        self, request_id: str, ids: Sequence[int], params: Any, adapter: Adapter | None
    ) -> AsyncGenerator[Any, None]:
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        prompt = {"prompt_token_ids": list(ids)}
        stream = self._running().generate(
            prompt, params, request_id=request_id, lora_request=self._lora(adapter)
        )
        try:
            async with aclosing(stream):
                async for output in stream:
                    yield output
        except EngineDeadError as error:
            raise EngineError(DIED) from error
        except EngineGenerateError as error:
            raise EngineError(f"the engine failed on {request_id}: {error.__cause__!r}") from error

    async def score(self, token_ids: Sequence[int], adapter: Adapter | None) -> list[float]:
        """See `Engine.score`."""
        from vllm import SamplingParams

        check_room(token_ids, 1, self.max_model_len)
        params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        request_id = f"score-{next(self._ids)}"
        async with aclosing(self._outputs(request_id, token_ids, params, adapter)) as outputs:
            steps = [output.prompt_logprobs async for output in outputs][-1]
        return [step[token].logprob for token, step in zip(token_ids[1:], steps[1:], strict=True)]

    async def load(self, adapter: Adapter) -> None:
        """See `Engine.load`."""
        from vllm.lora.request import LoRARequest

        async with self._changing:
            if adapter.name in self._residents:
                return
            if len(self._residents) >= self.settings.slots:
                raise EngineError(f"all {self.settings.slots} adapter slots are taken; unload one first")
            request = LoRARequest(adapter.name, next(self._ids), str(adapter.path))
            try:
                await self._core("add_lora", request)
                await self._core("pin_lora", request.lora_int_id)
            except BaseException as error:
                with suppress(Exception):
                    # half loaded, it would hold a slot
                    await self._core("remove_lora", request.lora_int_id)
                if not isinstance(error, Exception):
                    raise
                raise EngineError(f"vLLM does not take {adapter.name}: {error}") from error
            self._residents[adapter.name] = request

    async def unload(self, adapter: Adapter) -> None:
        """See `Engine.unload`."""
        async with self._changing:
            if request := self._residents.pop(adapter.name, None):
                with suppress(Unavailable):  # a dead engine holds nothing
                    await self._core("remove_lora", request.lora_int_id)

    async def slot_hashes(self, adapter: Adapter) -> dict[str, str]:
        """See `Engine.slot_hashes`; with several workers all must agree."""
        found: dict[str, str] = {}
        for part in range(HASH_PARTS):
            lora_id = self._lora(adapter).lora_int_id
            first, *rest = await self._rpc("heliotrope_slot_hashes", lora_id, part, HASH_PARTS)
            if any(other != first for other in rest):
                raise EngineError(f"workers hold different weights for {adapter.name}; restart serving")
            found |= first
        return found

    async def file_hashes(self, adapter: Adapter) -> dict[str, str]:
        """See `Engine.file_hashes`."""
        import torch

        from serving.vllm_plugin.digests import file_hashes

        dtype, rank = getattr(torch, self.dtype), self.settings.max_lora_rank
        try:
            return await aside(file_hashes, adapter.path, dtype, rank, adapter.digest)
        except (ValueError, OSError) as error:
            raise EngineError(f"{adapter.name} cannot be served: {error}") from error

    async def check(self) -> None:
        """See `Engine.check`."""
        if self._llm is None or self._llm.errored:
            raise Unavailable(DIED)

    async def stop(self) -> None:
        """See `Engine.stop`; waits for a start that is under way."""
        if starting := self._starting:
            await asyncio.wait([starting])
            self._llm = None if starting.exception() else starting.result()
            self._starting = None
        llm, self._llm = self._llm, None
        self._residents.clear()
        if llm is None:
            return
        llm.shutdown()
        with suppress(asyncio.CancelledError):
            if llm.output_handler is not None:
                await llm.output_handler
        # AsyncLLM shuts down again in __del__; at interpreter exit its module's names are gone and it would raise.
        llm.shutdown = lambda: None

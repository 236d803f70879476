"""Methods that serving calls on every worker through `collective_rpc` (`worker_extension_cls`)."""

from __future__ import annotations

from typing import Any

import torch

from serving.vllm_plugin.digests import slot_hashes
from serving.vllm_plugin.neighbours import mind_neighbours
from serving.vllm_plugin.speed import use_compiled_norms, use_inverse_sampling
from serving.vllm_plugin.threads import use_one_thread


class WorkerExtension:
    """Mixed into vLLM's worker class. Its names carry a prefix because they live among vLLM's own."""

    model_runner: Any

    def heliotrope_lora_ops(self) -> list[str]:
        """`module.Class` of the LoRA operations that really serve."""
        wrappers = self.model_runner.lora_manager._adapter_manager.punica_wrapper_mapping.values()
        return sorted({f"{type(w).__module__}.{type(w).__qualname__}" for w in wrappers})

    def heliotrope_slot_hashes(self, lora_id: int, part: int, parts: int) -> dict[str, str]:
        """sha256 of every matrix in the slot of `lora_id`, of one part of its modules; see `digests`."""
        return slot_hashes(self.model_runner.lora_manager._adapter_manager, lora_id, part, parts)

    def heliotrope_mind_neighbours(self) -> None:
        """Let the threads of a CPU worker wait awake while nobody else works on its cores; see `neighbours`."""
        mind_neighbours(torch.get_num_threads())

    def heliotrope_speed_up(self) -> None:
        """Put faster operations in force; see `speed`. Only for a CPU worker of a known vLLM."""
        use_compiled_norms()
        use_inverse_sampling(self.model_runner)
        use_one_thread(self.model_runner.model)

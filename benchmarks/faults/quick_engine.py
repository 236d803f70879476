"""A scripted engine that a real learner can work with: its versions pass serving's checks and are judged."""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmarks.scripted_engine import ScriptedEngine, number
from serving.engine import Adapter


class QuickEngine(ScriptedEngine):
    """Answers each request in other words, since of two answers that are the same nothing can be learned, and scores a
    version's fixed texts as its trainer recorded them."""

    def _words(self, prompt_ids: Sequence[int], adapter: Adapter | None, request_id: str) -> Sequence[int]:
        return [self.words[number(request_id, i) % len(self.words)] for i in range(self.length)]

    async def score(self, token_ids: Sequence[int], adapter: Adapter | None) -> list[float]:
        """Of tokens 1 and later, nats."""
        if adapter is None:
            return await super().score(token_ids, adapter)
        await self.check()
        items = json.loads((adapter.path / "behaviour.json").read_bytes())["items"]
        item = next(i for i in items if i["token_ids"] == list(token_ids))
        return [-1.0] * (item["start"] - 1) + item["own"]

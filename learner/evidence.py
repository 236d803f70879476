"""What the judge looks at: how a trained candidate orders unseen votes, and what it and its parent say when asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heliotrope.errors import HeliotropeError
from heliotrope.v1.common_pb2 import Sampling
from learner.backbone import Backbone
from learner.dpo import ADAPTER, DpoSettings, evaluate
from learner.examples import Preference, rows_of
from learner.judge import Evidence, Judged
from learner.prepared import PreparedStore, log_likelihoods
from learner.reward import RewardModel
from learner.rows import Row, make_row
from learner.samples import Sample, Sampler

PromptIds = tuple[int, ...]


@dataclass(frozen=True)
class Drawn:
    """Samples of the candidate and of its rival on the same prompts, in one order, at one temperature."""

    candidate: Sequence[Sample]
    rival: Sequence[Sample]
    temperature: float


def gather(
    backbone: Backbone,
    store: PreparedStore,
    reward: RewardModel,
    held_out: Sequence[Preference],
    drawn: Drawn,
    settings: DpoSettings,
) -> Evidence:
    """Measure the "policy" adapter. Greedy draws are measured at temperature 1."""
    usable = {row.id for row in rows_of(held_out, settings.max_tokens)[0]}
    decided = [p for p in held_out if not p.tie and p.id in usable]
    seen = evaluate(backbone, decided, settings, store)
    rows, said = _rows(drawn.candidate, drawn.rival, settings.max_tokens)
    rewards = reward.score(rows)
    both = log_likelihoods(backbone, rows, store, ADAPTER, settings.token_budget, drawn.temperature or 1.0)

    def judged(row: Row, i: int) -> Judged:
        ours, base = (float(values[i]) for values in both[row.id])
        served = sum(said[row.id][i].logprobs)
        return Judged(row.responses[i], rewards[row.id][i], ours - base, served, ours)

    ours, theirs = ([judged(row, i) for row in rows] for i in (0, 1))
    if seen is None:
        return Evidence(0, 0.0, ours, theirs)
    return Evidence(len(decided), seen.accuracy, ours, theirs, held_out_kl=seen.kl)


def draw(
    sampler: Sampler, candidate: str, rival: str, prompts: Sequence[PromptIds], sampling: Sampling
) -> Drawn:
    """One sample of each prompt from the candidate's shadow (its digest) and from its rival (a version).

    The shadow's slot is freed again, whatever happens.
    """
    try:
        if not prompts:
            return Drawn([], [], sampling.temperature)
        ours = sampler.draw(f"shadow:{candidate}", prompts, sampling)
        return Drawn(ours, sampler.draw(rival, prompts, sampling), sampling.temperature)
    finally:
        sampler.release(candidate)


def _rows(
    candidate: Sequence[Sample], parent: Sequence[Sample], max_tokens: int
) -> tuple[list[Row], dict[str, tuple[Sample, Sample]]]:
    """One row a prompt with both samples, and the two by the row's id. Samples that are empty, or too long to train on, are
    left out."""
    rows, said = [], {}
    for ours, theirs in zip(candidate, parent, strict=True):
        if ours.prompt_ids != theirs.prompt_ids:
            raise HeliotropeError(
                f"serving answered prompt {ours.prompt_index} in another order; restart serving"
            )
        if not (ours.token_ids and theirs.token_ids):
            continue
        size = len(ours.prompt_ids) + len(ours.token_ids) + len(theirs.token_ids)
        if size <= max_tokens:
            id = f"judged-{hash((ours.prompt_ids, ours.token_ids, theirs.token_ids)):x}"
            rows.append(make_row(id, ours.prompt_ids, (ours.token_ids, theirs.token_ids), max_tokens))
            said[id] = (ours, theirs)
    return rows, said

"""The loop, on one page: read → join → update reward model → update policy → judge → publish.

Publishing is the commit: a version's manifest says how far the log was read and what was trained on. Killed before
READY, the same version is made of the same feedback; killed after it, that feedback is not learned from again.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from threading import Event

from feedback.agreement import Agreement, agreement
from feedback.examples import Example
from feedback.teachings import Teaching
from heliotrope.config import Config
from heliotrope.errors import HeliotropeError
from heliotrope.policies import BASE, CANDIDATE
from heliotrope.registry import PolicyVersion
from heliotrope.v1.common_pb2 import Sampling
from learner import evidence, heap, judge, publish, rewards
from learner.courtesy import wait_turn
from learner.dpo import ADAPTER, DpoSettings, PolicyUpdate, Progress, train_policy
from learner.examples import Preference, rows_of, teaches, weights
from learner.lessons import lessons_of
from learner.parts import PARENT, Parts, hold, judgements, known, rehearse_only, start_from
from learner.recovery import begun
from learner.rehearsal import learned_by, lesson
from learner.staleness import Trainer, discount
from learner.store import Plan
from learner.without import NOBODY, Without

log = logging.getLogger("heliotrope.learner")

DECISION_SECONDS = 60
"""How long a published version is waited for, so that the next one starts from what is live by then."""
LONGEST_PAUSE = 300.0
"""Longest pause after failures, seconds."""


def run(parts: Parts, stop: Event, between: Callable[[Parts], object] = lambda parts: None) -> None:
    """Until told to stop: wait for enough news, then make one version of all that is known. between: run before each look.

    A turn that fails changes nothing and is tried again, later each time: the feedback is in the log.
    """
    failures = 0
    while not stop.is_set():
        try:
            between(parts)
            version = turn(parts)
            failures = 0
            if version is None:
                stop.wait(parts.config.learner.poll_seconds)
                continue
            log.info("published %s: %s", version.name, "passed" if version.manifest.passed else "not passed")
            await_decision(parts, version.name, stop)
        except (HeliotropeError, OSError, sqlite3.Error) as error:
            failures += 1
            log.warning("no version this time, the feedback is kept for the next try: %s", error)
            stop.wait(min(LONGEST_PAUSE, parts.config.learner.poll_seconds * 2 ** min(failures, 9)))


def turn(parts: Parts) -> PolicyVersion | None:
    """One look at the log: a version when enough is new. One that was begun before a kill is made as it would have been."""
    plan = begun(parts)
    if plan is None:
        parts.inbox.look_again()
    parts.inbox.read(until=plan and plan.positions)
    preferences = known(parts)
    if plan is None:
        fresh = parts.inbox.fresh(preferences)
        if len(fresh) < parts.config.learner.min_new or not any(map(teaches, fresh)):
            prepare_ahead(parts, preferences)
            return None
        plan = parts.store.begin(plan_of(parts))
    try:
        return update(parts, preferences, plan)
    finally:
        parts.store.end()  # only a kill leaves an update to be taken up
        heap.give_back()


def plan_of(parts: Parts, parent: str = "") -> Plan:
    """An update from here and now. parent: what to start from; empty: what is live."""
    return Plan(parent or parts.inbox.live, dict(parts.inbox.positions), time.time())


def shared(examples: Sequence[Teaching]) -> Agreement:
    """How far people agree, on what several of them were shown."""
    return agreement(e for e in examples if isinstance(e, Preference))


def update(
    parts: Parts, known: list[Teaching], plan: Plan | None = None, without: Without = NOBODY
) -> PolicyVersion:
    """One turn of the loop: a judged, published version. plan: by default from here and now. without: whose examples are
    left out.

    Raises Unavailable when serving cannot draw samples.
    """
    config, backbone, preferences = parts.config, parts.backbone, without.rest(known)
    plan = plan or plan_of(parts)
    parent, now = plan.parent, plan.now
    wait_turn(parts)
    start_from(parts, parent)
    said = judgements(preferences)
    rehearse_only(parts, said)
    parts.store.record(parts.reward.learn(said))
    trained = train(parts, parent, preferences, now)

    origin = publish.Origin.of(parent, plan.positions, trained, preferences, parts.reward.record(), now)
    origin = replace(origin, without=without.record())
    behaviour = parts.recorder.record(ADAPTER, None if parent == BASE else PARENT)
    unjudged = publish.manifest(origin, config, parts.chat, {}, {})
    shadow = parts.registry.publish_shadow(publish.stage(backbone, behaviour, unjudged))
    gates = judged(parts, shadow.digest, preferences)

    pairs = sum(isinstance(p, Preference) for p in preferences)
    metrics = publish.metrics(trained, pairs, parts.store.accuracy(), gates) | shared(preferences).figures
    manifest = publish.manifest(origin, config, parts.chat, gates, metrics)
    frozen = parts.reward.freeze(rewards.folder(parts.registry))
    version = parts.registry.publish(publish.stage(backbone, behaviour, manifest))
    parts.reward.published(frozen)
    parts.inbox.settle(preferences)
    parts.prepared.retain({example.id for example in preferences})
    parts.curves.record(version.name, trained.history, metrics)
    return version


def train(parts: Parts, parent: str, preferences: list[Teaching], now: float) -> PolicyUpdate:
    """Train the policy from its present weights, the parent's: everything between what is known and the new weights. The
    same preferences, `now` (seconds, for their age), configuration and machine give the same weights, bit by bit."""
    config = parts.config
    learned = learned_by(parts.registry, parent, preferences)
    seed = f"{config.learner.seed} {parent}"
    weigh = partial(_shares, now=now, config=config)
    shares = lesson(preferences, weigh, learned, config.learner.rehearsal, seed)
    aged = discount(_trainer(parts), parent, preferences, shares)
    hold(parts, PARENT, parent)
    log.info(
        "training from %s on %d of %d examples", parent, sum(s > 0 for s in aged.shares), len(preferences)
    )
    settings = DpoSettings.of(config, shared(preferences).label_flips or 0.0)

    def progress(at: Progress) -> None:
        parts.progress(at)
        wait_turn(parts)

    done = train_policy(parts.backbone, preferences, aged.shares, settings, parts.prepared, progress)
    _, unread = rows_of(judgements(preferences), settings.max_tokens)  # by the reward model, or the judge
    refused = done.refused | unread
    for why in refused.values():
        log.warning("left out: %s", why)
    age = _age(preferences, aged.shares, now)
    return replace(done, refused=refused, drift=aged.drift, effective=aged.effective, age=age)


def judged(parts: Parts, shadow: str, preferences: list[Teaching]) -> dict[str, judge.Gate]:
    """Every gate's verdict on the trained adapter, from unseen votes and from samples drawn through its shadow."""
    config = parts.config
    longest = min(config.judge.max_tokens, config.serving.max_tokens)
    room = min(config.model.max_context - longest, config.dpo.max_tokens - 2 * longest)
    prompts = parts.inbox.prompts(config.judge.prompts, preferences, room)
    sampling = Sampling(temperature=config.serving.temperature, max_tokens=longest)
    parts.inbox.read_moves()
    rival = parts.inbox.live  # what people have now, which may not be what they had when training began
    log.info("judging %s on %d prompts against %s", shadow[:12], len(prompts), rival)
    drawn = evidence.draw(parts.sampler, shadow, rival, prompts, sampling)
    held_out = [p for p in preferences if p.held_out and isinstance(p, Preference)]
    settings = DpoSettings.of(config)
    seen = evidence.gather(parts.backbone, parts.prepared, parts.reward, held_out, drawn, settings)
    right, predictions = parts.store.right()
    return judge.judge(replace(seen, reward_right=right, reward_predictions=predictions), config.judge)


def await_decision(parts: Parts, version: str, stop: Event) -> None:
    """Wait until serving has decided on a version that puts itself in."""
    if parts.config.rollout.mode != "auto":
        return
    for _ in range(DECISION_SECONDS):
        parts.inbox.read()
        standing = parts.inbox.table.standings.get(version)
        if (standing and standing.state != CANDIDATE) or stop.wait(1.0):
            return


def prepare_ahead(parts: Parts, preferences: list[Teaching]) -> None:
    """While waiting, run the frozen base over what came in, half of a short training, and let the reward model learn it."""
    new = [p for p in preferences if p.id not in parts.prepared]
    if not new:
        return
    wait_turn(parts)
    lessons, refused = lessons_of(new, {p.id: 1.0 for p in new}, parts.config.dpo.max_tokens)
    parts.prepared.refuse(refused)
    rows = [lesson.row for lesson in lessons]
    parts.prepared.prepare(parts.backbone, rows, workers=1)  # there is time, and people are being served
    parts.store.record(parts.reward.learn(judgements(preferences), whole_steps=True))
    heap.give_back()


def _shares(preferences: Sequence[Example], now: float, config: Config) -> list[float]:
    settings = config.learner
    half_life = settings.half_life_days * 86400
    return weights(preferences, now, half_life, settings.votes_per_person, settings.person_share)


def _age(preferences: list[Teaching], shares: Sequence[float], now: float) -> float:
    """Mean age of what is learned from, seconds, by its share."""
    return sum(s * (now - p.time) for p, s in zip(preferences, shares, strict=True)) / (sum(shares) or 1.0)


def _trainer(parts: Parts) -> Trainer:
    dpo = parts.config.dpo
    return Trainer(parts.backbone, parts.prepared, parts.registry, PARENT, dpo.max_tokens, dpo.token_budget)

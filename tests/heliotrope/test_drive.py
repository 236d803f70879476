"""Simulated people against scripted services on real sockets, and the judging at the end."""

from __future__ import annotations

import asyncio
import json
import tomllib
from itertools import islice

import pytest

from deploy.demo import FILE, Demo
from heliotrope.client import AsyncClient
from heliotrope.errors import Unavailable
from heliotrope.simulate import report
from heliotrope.simulate.drive import Crowd, Plan, shared_prompts, user_id, visits
from heliotrope.simulate.judging import Reply
from heliotrope.simulate.people import Population
from heliotrope.simulate.prompts import asked, kept
from heliotrope.turn import Turn
from heliotrope.v1 import chat_pb2, common_pb2, feedback_pb2
from tests.heliotrope.scripted_loop import Scripted, good, scripted_loop

PLAN = Plan(comparisons=60, people=30, concurrency=8, seed=3, shared=3, shared_every=4)


async def drive(script: Scripted, plan: Plan = PLAN) -> Crowd:
    async with scripted_loop(script) as (public, private), AsyncClient(public, private) as client:
        crowd = Crowd(client, plan)
        await crowd.compare()
    return crowd


async def test_people_compare_through_the_public_api_and_are_marked_simulated() -> None:
    script = Scripted(pool=frozenset(shared_prompts(3)))
    ledger = (await drive(script)).ledger
    assert len(script.chats) == 60
    assert {c.source for c in script.chats} == {common_pb2.SOURCE_SIMULATED}
    assert {c.comparison for c in script.chats} == {chat_pb2.COMPARISON_WISH_ON}
    assert {c.sampling.max_tokens for c in script.chats} == {48}
    assert not {c.message for c in script.chats} & set(kept())
    assert ledger.requests == 60 + len(script.votes) and ledger.failed == 0
    assert ledger.comparisons == 60
    assert len(set(script.users)) == 30, "each person has their own identity"
    assert 2 <= script.most_at_once <= PLAN.concurrency


async def test_a_changed_mind_is_a_new_request_for_the_same_ticket() -> None:
    script = Scripted()
    ledger = (await drive(script, Plan(comparisons=150, people=30, concurrency=8, seed=3))).ledger
    by_ticket: dict[str, list[feedback_pb2.Feedback]] = {}
    for vote in script.votes.values():
        by_ticket.setdefault(vote.feedback_tickets[0], []).append(vote.feedback)
    comparisons = [[f for f in given if f.HasField("comparison")] for given in by_ticket.values()]
    twice = [given for given in comparisons if len(given) == 2]
    assert len(twice) == ledger.changed > 0
    assert all(first.comparison.choice != second.comparison.choice for first, second in twice)
    assert ledger.thumbs > 0 and len(script.votes) == 150 + ledger.changed + ledger.thumbs


async def test_people_see_through_swapped_sides_when_agreement_is_measured() -> None:
    # The scripted pair is shown in turns left and right; nearly everybody prefers its good half.
    script = Scripted(pool=frozenset(shared_prompts(3)))
    ledger = (await drive(script)).ledger
    assert len(ledger.votes) == 60 / 4
    measured = ledger.agreement()
    assert measured is not None and measured > 0.9
    swapped_blindly = [(item, person, choice) for item, person, choice in ledger.votes]
    assert {choice for _, _, choice in swapped_blindly if choice in "ab"} == {"a"}, "1. … sorts before Sure …"


async def test_every_failed_request_is_counted_and_people_go_on() -> None:
    script = Scripted(fail_every=3)
    ledger = (await drive(script)).ledger
    assert ledger.failed == 60 // 3
    assert ledger.comparisons == 60 - 20
    assert dict(ledger.failures) == {"RESOURCE_EXHAUSTED: 64 answers are being streamed; try again": 20}


async def test_people_give_up_when_serving_is_gone() -> None:
    async with AsyncClient("127.0.0.1:9", "127.0.0.1:9") as client:
        crowd = Crowd(client, PLAN)
        with pytest.raises(Unavailable, match="20 requests in a row failed.*is serving running.*make run"):
            await crowd.compare()
    assert crowd.ledger.failed >= 20


async def test_an_answer_without_its_end_is_a_failed_request() -> None:
    turn = Turn()
    turn.push(chat_pb2.ChatResponse(sequence=0, started=chat_pb2.ChatStarted(conversation_id="c")))
    with pytest.raises(Unavailable, match="cut off"):
        turn.end()
    with pytest.raises(Unavailable, match="chunk 1 of the answer is missing"):
        turn.push(chat_pb2.ChatResponse(sequence=2))


async def test_people_chat_on_without_votes_until_told() -> None:
    script, done = Scripted(), asyncio.Event()
    async with scripted_loop(script) as (public, private), AsyncClient(public, private) as client:
        crowd = Crowd(client, PLAN)

        def wanted() -> int:
            if len(script.chats) >= 20:
                done.set()
            return 5

        await asyncio.wait_for(crowd.keep_chatting(wanted, done), 20)
    assert script.votes == {} and crowd.ledger.failed == 0
    assert {c.comparison for c in script.chats} == {chat_pb2.COMPARISON_WISH_OFF}
    assert len(script.chats) == crowd.ledger.requests >= 20
    assert script.most_at_once <= 5


def test_the_same_seed_asks_the_same_and_kept_prompts_are_never_asked() -> None:
    def taken(seed: int) -> list[tuple[str, str]]:
        plan = Plan(seed=seed, people=7)
        return [(p.name, prompt) for p, prompt in islice(visits(plan, Population(seed, 7)), 600)]

    assert taken(1) == taken(1) != taken(2)
    assert {prompt for _, prompt in taken(1)} <= set(asked())
    people = Population(1, 7)
    assert len({user_id(1, p) for p in people.people} | {user_id(2, p) for p in people.people}) == 14


def test_in_the_demo_each_shared_prompt_is_judged_by_people_who_differ() -> None:
    demo = Demo.model_validate(tomllib.loads(FILE.read_text())["demo"])
    seen: dict[str, list[str]] = {prompt: [] for prompt in shared_prompts(demo.shared)}
    for person, prompt in islice(visits(demo.plan(), Population(1, demo.people)), demo.comparisons):
        if prompt in seen:
            seen[prompt].append(person.name)
    assert all(len(people) == len(set(people)) >= 4 for people in seen.values())


async def test_the_end_is_judged_on_kept_prompts_with_the_same_sampling_for_both() -> None:
    script, ledger, final = Scripted(), Crowd(AsyncClient(), PLAN).ledger, report.Final(prompts=12, samples=2)
    async with scripted_loop(script) as (public, private), AsyncClient(public, private) as client:
        base, live = [await report.draw(client, ledger, name, final) for name in ("base", "policy-v1")]
    assert [d.adapter for d in script.draws] == ["base", "policy-v1"]
    assert script.draws[0].sampling == script.draws[1].sampling and script.draws[0].n == 2
    assert list(live) == list(kept()[:12]) and all(len(replies) == 2 for replies in live.values())
    assert live[kept()[0]][0].text == good(kept()[0])
    judged = report.judge(base, live)
    assert judged.true_win_rate == 1.0 and judged.ci95 == (1.0, 1.0)
    backwards = report.judge(live, base)
    assert backwards.true_win_rate == 0.0
    assert backwards.length_ratio == pytest.approx(1 / judged.length_ratio)


async def test_missing_final_samples_are_an_error_with_the_reason() -> None:
    async with AsyncClient("127.0.0.1:9", "127.0.0.1:9") as client:
        ledger = Crowd(client, PLAN).ledger
        with pytest.raises(Unavailable, match="0 of 6 final samples of base.*is serving running"):
            await report.draw(client, ledger, "base", report.Final(prompts=3, samples=2))
    assert ledger.failed == 1


def test_the_last_line_has_the_agreed_keys_and_good_needs_both() -> None:
    fields = {
        "comparisons": 300, "versions": 2, "true_win_rate": 0.78125, "ci95": (0.71, 0.84), "kl_nats": 4.0,
        "length_ratio": 1.1, "length_control_win_rate": 0.5, "agreement": 0.66, "in_flight_at_last_swap": 12,
        "seconds": 800.123456, "requests": 700, "failed_requests": 0,
    }  # fmt: skip
    made = report.Report(**fields)  # type: ignore[arg-type]
    line = json.loads(made.line())
    assert list(line) == list(fields) and line["ci95"] == [0.71, 0.84] and line["true_win_rate"] == 0.7812
    assert made.good
    assert not report.Report(**fields | {"failed_requests": 1}).good  # type: ignore[arg-type]
    assert not report.Report(**fields | {"ci95": (0.5, 0.9)}).good  # type: ignore[arg-type]


def test_kl_comes_from_the_judge_and_is_unknown_without_it() -> None:
    assert report.kl_nats({"verdict": {"kl": {"figures": {"nats": 3.25}}}}) == 3.25
    assert report.kl_nats({}) is None


def test_length_ratio_is_of_tokens() -> None:
    base = {"q": [Reply("One two.", True, 10), Reply("One two.", True, 20)]}
    live = {"q": [Reply("One two.", True, 30), Reply("One two.", True, 30)]}
    assert report.judge(base, live).length_ratio == 30 / 15

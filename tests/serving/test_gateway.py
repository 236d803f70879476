"""The HTTP face over real sockets: a real uvicorn in front of a scripted gRPC listener."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from heliotrope.errors import ConfigError
from serving.gateway import bind, serve_on
from serving.gateway_guard import MAX_BODY
from tests.serving.scripted_services import WORDS, ScriptedServices, scripted_listener

PAGES = Path(__file__).parents[2] / "serving" / "pages"


@dataclass
class House:
    """A running gateway: a client that behaves as the page does, and what stands behind."""

    http: httpx.AsyncClient
    services: ScriptedServices
    stop: asyncio.Event
    gateway: asyncio.Task[None]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with scripted_listener() as (services, target):
        listener = bind("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop = asyncio.Event()
        gateway = asyncio.create_task(serve_on(listener, target, stop, 5))
        async with httpx.AsyncClient(base_url=url, headers={"origin": url}, trust_env=False) as http:
            yield House(http, services, stop, gateway)
        stop.set()
        await asyncio.wait_for(gateway, 10)


async def chat(house: House, **fields: object) -> list[dict]:
    response = await house.http.post("/api/chat", json={"request_id": "q1", **fields})
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def text_of(chunks: list[dict], response_id: str) -> str:
    deltas = [chunk["delta"] for chunk in chunks if "delta" in chunk]
    return "".join(delta["text"] for delta in deltas if delta["response_id"] == response_id)


async def test_an_answer_comes_whole_and_in_order(house: House) -> None:
    chunks = await chat(house, message="hello")
    assert "started" in chunks[0] and "finished" in chunks[-1]
    assert text_of(chunks, "r1-0") == "".join(WORDS)
    assert [int(chunk.get("sequence", 0)) for chunk in chunks] == list(range(len(chunks)))


async def test_every_field_of_a_request_reaches_the_server(house: House) -> None:
    fields = {
        "conversation_id": "c9",
        "parent_response_id": "p9",
        "comparison": "COMPARISON_WISH_ON",
        "consent": False,
    }
    chunks = await chat(house, message="hi", **fields)
    request = house.services.chats[0]
    assert (request.conversation_id, request.parent_response_id, request.request_id) == ("c9", "p9", "q1")
    assert request.HasField("consent") and not request.consent
    assert text_of(chunks, "r1-1") == "".join(WORDS).upper()


async def test_text_arrives_while_the_answer_is_still_being_made(house: House) -> None:
    body = {"request_id": "q1", "message": "slow answer"}
    async with house.http.stream("POST", "/api/chat", json=body) as response:
        lines = response.aiter_lines()
        seen = [json.loads(await anext(lines)) for _ in range(5)]
        assert text_of(seen, "r1-0") == "".join(WORDS[:4])
        assert not house.services.release.is_set()
        house.services.release.set()
        rest = [json.loads(line) async for line in lines]
    assert text_of(seen + rest, "r1-0") == "".join(WORDS)


@pytest.mark.parametrize("verb", ["slow", "queue"])
async def test_a_client_that_leaves_stops_the_generation_within_a_second(house: House, verb: str) -> None:
    """`queue` leaves before the first chunk, when no HTTP response has begun."""
    body = {"request_id": "q1", "message": f"{verb} answer"}
    asking = asyncio.create_task(house.http.post("/api/chat", json=body))
    await asyncio.wait_for(house.services.waiting.wait(), 5)
    asking.cancel()
    await asyncio.wait_for(house.services.cancelled.wait(), 1)
    assert (await asyncio.gather(asking, return_exceptions=True))[0].__class__ is asyncio.CancelledError


async def test_the_first_chat_makes_the_identity_and_later_calls_carry_it(house: House) -> None:
    page = await house.http.get("/")
    assert "set-cookie" not in page.headers
    first = await house.http.post("/api/chat", json={"request_id": "q1", "message": "hello"})
    cookie = first.headers["set-cookie"]
    assert re.match(r"heliotrope_user=[0-9a-f]{32}; ", cookie)
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Secure" not in cookie
    second = await house.http.post("/api/chat", json={"request_id": "q2", "message": "hello"})
    assert "set-cookie" not in second.headers
    assert house.services.users == [house.http.cookies["heliotrope_user"]] * 2


async def test_a_cookie_that_is_no_identity_is_replaced(house: House) -> None:
    headers = {"cookie": "heliotrope_user=admin"}
    response = await house.http.post(
        "/api/chat", json={"request_id": "q1", "message": "hello"}, headers=headers
    )
    assert "set-cookie" in response.headers
    assert re.fullmatch("[0-9a-f]{32}", house.services.users[0])


async def test_votes_and_retractions_go_through_as_the_same_person(house: House) -> None:
    await chat(house, message="hello")
    vote = {
        "request_id": "v1",
        "feedback_tickets": ["ticket-1"],
        "feedback": {"thumb": {"response_id": "r1-0", "up": True}},
    }
    given = await house.http.post("/api/feedback", json=vote)
    assert given.json() == {"feedback_id": "f1", "policy_versions": ["policy-v1"]}
    assert house.services.votes[0].feedback.thumb.up
    assert house.services.users[0] == house.services.users[1]
    taken = await house.http.post("/api/retract", json={"request_id": "v2", "feedback_id": "f1"})
    assert (taken.status_code, house.services.retracted) == (200, ["f1"])


async def test_a_vote_without_an_identity_is_refused_by_the_server(house: House) -> None:
    response = await house.http.post("/api/feedback", json={"request_id": "v1"})
    assert response.status_code == 401
    assert response.json()["error"] == {
        "code": "UNAUTHENTICATED",
        "message": "no identity; send x-heliotrope-user",
    }


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INVALID_ARGUMENT", 400),
        ("NOT_FOUND", 404),
        ("PERMISSION_DENIED", 403),
        ("ALREADY_EXISTS", 409),
        ("RESOURCE_EXHAUSTED", 429),
        ("UNIMPLEMENTED", 501),
        ("UNAVAILABLE", 503),
        ("INTERNAL", 500),
    ],
)
async def test_a_failed_call_keeps_its_message_and_gets_the_matching_status(
    house: House, code: str, status: int
) -> None:
    response = await house.http.post("/api/chat", json={"request_id": "q1", "message": f"fail {code}"})
    assert response.status_code == status
    assert response.json()["error"] == {"code": code, "message": f"scripted {code}; say something else"}
    assert response.headers.get("retry-after") == (
        "2" if status in (429, 503) else None
    )  # 1,500 ms, rounded up


async def test_a_failure_in_mid_stream_is_the_last_line(house: House) -> None:
    chunks = await chat(house, message="break now")
    assert text_of(chunks, "r1-0") == "".join(WORDS[:4])
    assert chunks[-1] == {
        "error": {"code": "UNAVAILABLE", "message": "the engine died; send the message again"}
    }


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_posts_from_other_origins_are_refused_and_change_nothing(house: House, origin: str) -> None:
    for path in ("/api/chat", "/api/feedback", "/api/retract"):
        response = await house.http.post(path, json={"message": "hello"}, headers={"origin": origin})
        assert response.status_code == 403 and repr(origin) in response.json()["error"]["message"]
    assert not house.services.chats and not house.services.votes


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "[", ""]
)
async def test_a_foreign_name_for_this_machine_is_refused(house: House, host: str) -> None:
    """DNS rebinding: the browser holds evil.example for this page, so its Origin and Host agree."""
    headers = {"host": host, "origin": f"http://{host}"}
    page = await house.http.get("/", headers=headers)
    post = await house.http.post("/api/chat", json={"request_id": "q1", "message": "hello"}, headers=headers)
    assert page.status_code == post.status_code == 403 and not house.services.chats
    assert "serving.hosts" in post.json()["error"]["message"]


async def test_a_post_that_names_no_origin_is_refused(house: House) -> None:
    del house.http.headers["origin"]
    response = await house.http.post("/api/chat", json={"message": "hello"})
    assert response.status_code == 403 and "send Origin" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "hint"),
    [
        (b"{", 400, "not a ChatRequest"),
        (b"[]", 400, "one JSON object"),
        (b'{"mesage": "hi"}', 400, "mesage"),
        (b'{"message": 5}', 400, "message"),
        (b'{"message": "\\ud800"}', 400, "not a ChatRequest"),
        (b'{"sampling": {"temperature": "hot"}}', 400, "temperature"),
        (b"\xff\xfe", 400, "not a ChatRequest"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b'{"message": "' + b"x" * MAX_BODY + b'"}', 413, str(MAX_BODY)),
    ],
)
async def test_bad_bodies_are_refused_with_a_reason(
    house: House, body: bytes, status: int, hint: str
) -> None:
    response = await house.http.post("/api/chat", content=body, headers={"content-type": "application/json"})
    assert response.status_code == status
    assert hint in response.json()["error"]["message"]
    assert not house.services.chats


async def test_forms_are_not_taken(house: House) -> None:
    response = await house.http.post("/api/chat", data={"message": "hello"})
    assert response.status_code == 415 and "application/json" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/", "/static/app.js", "/healthz", "/no-such-page", "/static/../gateway.py"]
)
async def test_every_answer_carries_the_security_headers(house: House, path: str) -> None:
    response = await house.http.get(path)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_the_page_and_all_that_it_names_are_served_from_here(house: House) -> None:
    page = (await house.http.get("/")).text
    named = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert len(named) >= 4
    for path in named:
        assert (await house.http.get(path)).status_code == 200, path


def test_the_page_has_no_inline_script_and_never_parses_text_as_html() -> None:
    page = (PAGES / "chat.html").read_text()
    assert not re.findall(r"<script(?![^>]*src=)|<style|\son\w+=|style=|javascript:", page)
    scripts = "".join(file.read_text() for file in (PAGES / "static").glob("*.js"))
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", scripts)


async def test_health_follows_the_listener(house: House) -> None:
    await chat(house, message="hello")
    assert (await house.http.get("/healthz")).json() == {"chat": "ready"}


async def test_a_dead_listener_is_an_error_and_not_a_hang() -> None:
    closed = bind("127.0.0.1", 0)
    target = f"127.0.0.1:{closed.getsockname()[1]}"
    closed.close()
    listener, stop = bind("127.0.0.1", 0), asyncio.Event()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    gateway = asyncio.create_task(serve_on(listener, target, stop, 1))
    async with httpx.AsyncClient(base_url=url, headers={"origin": url}, trust_env=False) as http:
        response = await http.post("/api/chat", json={"request_id": "q1", "message": "hello"})
        assert response.status_code == 503 and response.json()["error"]["code"] == "UNAVAILABLE"
        assert (await http.get("/healthz")).status_code == 503
    stop.set()
    await asyncio.wait_for(gateway, 5)


async def test_a_stop_lets_the_stream_in_flight_end(house: House) -> None:
    body = {"request_id": "q1", "message": "slow answer"}
    asking = asyncio.create_task(house.http.post("/api/chat", json=body))
    await asyncio.wait_for(house.services.waiting.wait(), 5)
    house.stop.set()
    house.services.release.set()
    lines = (await asking).text.splitlines()
    assert "finished" in json.loads(lines[-1])
    await asyncio.wait_for(house.gateway, 10)


def test_a_taken_port_is_named_with_the_remedy() -> None:
    with bind("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127.0.0.1:{port} .*serving.http_port"):
            bind("127.0.0.1", port)

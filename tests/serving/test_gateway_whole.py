"""The page's own requests through the gateway to the real services and the real log; only the engine is scripted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from heliotrope.v1 import common_pb2, feedback_pb2
from serving.gateway import serve_http
from tests.serving.running import World, running
from tests.waiting import until_async


class Page:
    """Sends what the page sends, and reads what it reads."""

    def __init__(self, http: httpx.AsyncClient, world: World) -> None:
        self.http, self.world, self._sent = http, world, 0

    async def post(self, path: str, **fields: object) -> list[dict[str, Any]]:
        """The lines of a 200; one for everything but a chat."""
        self._sent += 1
        response = await self.http.post(path, json={"request_id": f"p{self._sent}", **fields})
        assert response.status_code == 200, response.text
        return [json.loads(line) for line in response.text.splitlines()]


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    stop = asyncio.Event()
    async with running(tmp_path / "state") as world:
        gateway = asyncio.create_task(serve_http(world.config, stop))
        url = f"http://{world.config.serving.host}:{world.config.serving.http_port}"
        async with httpx.AsyncClient(base_url=url, headers={"origin": url}, trust_env=False) as http:
            yield Page(http, world)
        stop.set()
        await asyncio.wait_for(gateway, 10)


async def test_a_pick_is_logged_taken_back_and_the_chat_goes_on_from_it(page: Page) -> None:
    chunks = await page.post("/api/chat", message="hello", comparison="COMPARISON_WISH_ON")
    started = chunks[0]["started"]
    b = started["answers"][1]["response_id"]
    assert "finished" in chunks[-1]
    vote = {
        "feedback_tickets": [started["feedback_ticket"]],
        "feedback": {"comparison": {"choice": "CHOICE_B"}},
    }
    (given,) = await page.post("/api/feedback", **vote)
    (event,) = page.world.events("feedback", "feedback_given")
    assert event.event_id == given["feedback_id"]
    assert event.feedback_given.feedback.comparison.choice == feedback_pb2.CHOICE_B
    await page.post(
        "/api/chat", message="more", conversation_id=started["conversation_id"], parent_response_id=b
    )
    text_of_b = "".join(c["delta"]["text"] for c in chunks if c.get("delta", {}).get("response_id") == b)
    served = page.world.events("exchanges", "response_served")[-1].response_served
    assert [m.content for m in served.messages] == ["hello", text_of_b, "more"]
    await page.post("/api/retract", feedback_id=given["feedback_id"])
    assert len(page.world.events("feedback", "feedback_retracted")) == 1


async def test_a_chat_stopped_before_its_first_word_is_closed_and_goes_on(page: Page) -> None:
    page.world.engine.hold(after=0)
    body = {"request_id": "s1", "message": "hello"}
    async with page.http.stream("POST", "/api/chat", json=body) as response:
        started = json.loads(await anext(response.aiter_lines()))["started"]
    (closed,) = await until_async(lambda: page.world.events("exchanges", "response_served"), 2)
    assert closed.response_served.finish_reason == common_pb2.FINISH_REASON_CANCELLED
    page.world.engine.release()
    parent = started["answers"][0]["response_id"]
    chunks = await page.post(
        "/api/chat", message="again", conversation_id=started["conversation_id"], parent_response_id=parent
    )
    assert "finished" in chunks[-1]


async def test_without_consent_the_log_says_so(page: Page) -> None:
    await page.post("/api/chat", message="hello", consent=False)
    (closed,) = page.world.events("exchanges", "response_served")
    assert not closed.consent


async def test_another_browser_cannot_vote_with_a_ticket(page: Page) -> None:
    first, *_ = await page.post("/api/chat", message="hello")
    ticket, response_id = first["started"]["feedback_ticket"], first["started"]["answers"][0]["response_id"]
    page.http.cookies.clear()
    vote = {"feedback_tickets": [ticket], "feedback": {"thumb": {"response_id": response_id, "up": True}}}
    anonymous = await page.http.post("/api/feedback", json={"request_id": "x1", **vote})
    assert anonymous.status_code == 401
    page.http.cookies.set("heliotrope_user", "b" * 32)
    stranger = await page.http.post("/api/feedback", json={"request_id": "x2", **vote})
    assert stranger.status_code == 403
    assert not page.world.events("feedback", "feedback_given")

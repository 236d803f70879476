"""The page in a real Chromium, in front of a scripted listener.

Needs the Python package `playwright` and a system Chromium (Debian: `apt-get install chromium`); skipped without.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from heliotrope.v1 import chat_pb2, feedback_pb2
from serving.gateway import bind, serve_on
from tests.serving.scripted_services import WORDS, ScriptedServices, scripted_listener

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
ANSWER = "".join(WORDS)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; apt-get install chromium"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="pip install playwright"),
]


@dataclass
class Visit:
    """An open page and what stands behind it. troubles: what the browser complained about."""

    page: Any
    services: ScriptedServices
    url: str
    troubles: list[str]

    async def say(self, text: str) -> None:
        """Type a message and send it with Enter."""
        await self.page.fill("#message", text)
        await self.page.press("#message", "Enter")

    async def sees(self, text: str) -> None:
        """Wait until the text can be read on the page."""
        await self.page.get_by_text(text, exact=False).first.wait_for(timeout=5000)

    async def idle(self) -> None:
        """Wait until no answer streams."""
        await self.page.wait_for_selector("#send:not([hidden])", timeout=5000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Any]:
    """One browser for the file: it takes seconds to start."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def visit(chromium: Any) -> AsyncIterator[Visit]:
    """A fresh profile on a fresh page, with a gateway and a listener of its own."""
    stop, troubles = asyncio.Event(), []
    async with scripted_listener() as (services, target):
        listener = bind("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        gateway = asyncio.create_task(serve_on(listener, target, stop, 2))
        profile = await chromium.new_context(viewport={"width": 1100, "height": 760})
        page = await profile.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "console", lambda line: troubles.append(line.text) if "Content Security" in line.text else None
        )
        await page.goto(url)
        yield Visit(page, services, url, troubles)
        await profile.close()
        stop.set()
        await asyncio.wait_for(gateway, 10)
    assert not troubles


async def test_an_answer_streams_and_its_text_stays_text(visit: Visit) -> None:
    await visit.say("slow question")
    await visit.sees("Heliotrope turns <b>toward</b> the")
    assert await visit.page.is_visible("#stop")
    visit.services.release.set()
    await visit.idle()
    assert await visit.page.inner_text(".text") == ANSWER
    assert await visit.page.locator(".text b").count() == 0
    assert ANSWER in await visit.page.inner_text("#status")


@pytest.mark.parametrize("way", ["Escape", "#stop"])
async def test_stop_ends_the_generation_and_the_chat_goes_on(visit: Visit, way: str) -> None:
    await visit.say("slow question")
    await visit.sees("<b>toward</b>")
    await (visit.page.keyboard.press(way) if way == "Escape" else visit.page.click(way))
    await asyncio.wait_for(visit.services.cancelled.wait(), 1.5)
    await visit.sees("Stopped.")
    await visit.say("next")
    await visit.idle()
    assert visit.services.chats[1].parent_response_id == "r1-0"


async def test_a_thumb_can_be_given_changed_and_taken_back(visit: Visit) -> None:
    await visit.say("question")
    await visit.page.get_by_label("Good answer").click()
    await visit.sees("Thank you. Saved.")
    await visit.page.get_by_label("Bad answer").click()
    await visit.page.wait_for_selector('.thumb.down[aria-pressed="true"]')
    assert [vote.feedback.thumb.up for vote in visit.services.votes] == [True, False]
    assert visit.services.votes[0].feedback_tickets == ["ticket-1"]
    await visit.page.get_by_role("button", name="Undo").click()
    await visit.page.wait_for_selector('.thumb.down[aria-pressed="false"]')
    assert visit.services.retracted == ["f2", "f1"]


@pytest.mark.parametrize(
    ("key", "choice", "parent"),
    [
        ("1", feedback_pb2.CHOICE_A, "r1-0"),
        ("2", feedback_pb2.CHOICE_B, "r1-1"),
        ("0", feedback_pb2.CHOICE_TIE, "r1-0"),
        ("9", feedback_pb2.CHOICE_BOTH_BAD, "r1-0"),
        ("s", feedback_pb2.CHOICE_SKIP, "r1-0"),
    ],
)
async def test_a_key_picks_and_the_chosen_answer_carries_on(
    visit: Visit, key: str, choice: int, parent: str
) -> None:
    await visit.say("two answers")
    await visit.idle()
    labels = await visit.page.locator(".pane").evaluate_all("all => all.map(one => one.ariaLabel)")
    assert labels == ["Answer A", "Answer B"]
    await visit.page.keyboard.press(key)
    await visit.page.get_by_role("button", name="Undo").wait_for()
    assert visit.services.votes[0].feedback.comparison.choice == choice
    await visit.say("go on")
    await visit.idle()
    assert visit.services.chats[1].parent_response_id == parent


async def test_a_pick_can_be_taken_back_and_made_again(visit: Visit) -> None:
    await visit.say("two answers")
    await visit.page.get_by_role("button", name="B is better").click()
    await visit.page.get_by_role("button", name="Undo").click()
    await visit.page.get_by_role("button", name="A is better").click()
    await visit.page.wait_for_selector(".pane.chosen")
    assert visit.services.retracted == ["f1"]
    choices = [vote.feedback.comparison.choice for vote in visit.services.votes]
    assert choices == [feedback_pb2.CHOICE_B, feedback_pb2.CHOICE_A]


async def test_a_digit_typed_into_a_message_is_no_vote(visit: Visit) -> None:
    await visit.say("two answers")
    await visit.idle()
    await visit.page.click("#message")
    await visit.page.keyboard.type("1 2 0")
    assert await visit.page.input_value("#message") == "1 2 0"
    assert not visit.services.votes


async def test_the_options_decide_what_is_asked_for_and_are_kept(visit: Visit) -> None:
    await visit.page.click("summary")
    await visit.page.get_by_label("Always").check()
    await visit.page.get_by_label("What I give may be used").uncheck()
    await visit.page.keyboard.press("Escape")
    await visit.page.reload()
    await visit.sees("is not used to improve the model")
    await visit.say("question")
    await visit.idle()
    request = visit.services.chats[0]
    assert request.comparison == chat_pb2.COMPARISON_WISH_ON
    assert request.HasField("consent") and not request.consent


async def test_an_error_says_what_to_do_and_can_be_tried_again(visit: Visit) -> None:
    await visit.say("fail UNAVAILABLE")
    await visit.sees("The model is not answering")
    await visit.sees("scripted UNAVAILABLE; say something else")
    await visit.page.get_by_role("button", name="Try again").click()
    await visit.page.wait_for_selector(".problem")
    assert len({chat.request_id for chat in visit.services.chats}) == 2
    assert await visit.page.locator(".turn").count() == 1


async def test_a_broken_stream_keeps_what_came(visit: Visit) -> None:
    await visit.say("break now")
    await visit.sees("the engine died")
    assert await visit.page.inner_text(".text") == "".join(WORDS[:4])


async def test_it_says_when_feedback_is_not_offered(visit: Visit) -> None:
    await visit.say("mute answer")
    await visit.sees("Feedback is not offered for this answer: the log's disk is full")
    assert await visit.page.locator(".thumb").count() == 0


async def test_a_reload_keeps_the_conversation_and_goes_on_from_it(visit: Visit) -> None:
    await visit.say("question")
    await visit.idle()
    await visit.page.reload()
    await visit.sees("text of r2-1")
    assert await visit.page.locator(".turn").count() == 2
    assert await visit.page.locator(".said").all_inner_texts() == ["first", "second"]
    assert await visit.page.locator(".pane").count() == 3 and not await visit.page.is_visible("#empty")
    await visit.say("go on")
    await visit.idle()
    last = visit.services.chats[-1]
    assert (last.conversation_id, last.parent_response_id) == ("c1", "r2-1")


async def test_a_new_chat_is_not_brought_back(visit: Visit) -> None:
    await visit.say("question")
    await visit.idle()
    await visit.page.get_by_role("button", name="New chat").click()
    await visit.page.reload()
    assert await visit.page.is_visible("#empty")


async def test_a_new_chat_starts_a_new_conversation(visit: Visit) -> None:
    await visit.page.locator(".ideas button").first.click()
    await visit.idle()
    await visit.page.get_by_role("button", name="New chat").click()
    assert await visit.page.is_visible("#empty")
    await visit.say("question")
    await visit.idle()
    assert [chat.conversation_id for chat in visit.services.chats] == ["", ""]


async def test_nothing_runs_out_of_the_window(visit: Visit) -> None:
    visit.services.words = ("word " * 40, "x" * 200)
    await visit.say("two answers to a question " + "y" * 100)
    await visit.idle()
    for width in (320, 390, 1100):
        await visit.page.set_viewport_size({"width": width, "height": 700})
        assert await visit.page.evaluate("document.scrollingElement.scrollWidth") <= width


async def test_a_vote_that_fails_is_tried_again_under_the_same_request(visit: Visit) -> None:
    visit.services.failing_votes = 1
    await visit.say("question")
    await visit.page.get_by_label("Good answer").click()
    await visit.sees("the log's disk is full; try again")
    assert await visit.page.locator('.thumb[aria-pressed="true"]').count() == 0
    await visit.page.get_by_role("button", name="Try again").click()
    await visit.sees("Thank you. Saved.")
    first, second = visit.services.votes
    assert first.request_id == second.request_id

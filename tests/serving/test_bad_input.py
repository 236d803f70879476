"""Bad input, one row each: the right status, a message with the value and the remedy, and nothing changed."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import grpc
import pytest
import pytest_asyncio

from heliotrope.v1 import admin_pb2, chat_pb2, common_pb2, feedback_pb2, ingest_pb2, policy_pb2, sampler_pb2
from tests.serving.running import ALICE, BOB, World, refusal, request, rest, running

INVALID, DENIED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED
NOT_FOUND, NO_IDENTITY = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAUTHENTICATED
UNBUILT, WRONG_STATE = grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.FAILED_PRECONDITION
NOBODY = str(uuid.UUID(int=7))
USER, SYSTEM, ASSISTANT = common_pb2.ROLE_USER, common_pb2.ROLE_SYSTEM, common_pb2.ROLE_ASSISTANT
CHOICE_A = feedback_pb2.Comparison(choice=feedback_pb2.CHOICE_A)

Act = Callable[[World], Awaitable[object]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    async with running(tmp_path_factory.mktemp("bad") / "state") as world:
        yield world


def turns(*history: tuple[int, str]) -> list[common_pb2.Message]:
    return [common_pb2.Message(role=r, content=c) for r, c in history]  # type: ignore[arg-type]


def chat(who=ALICE, **fields) -> Act:
    return lambda world: world.chat(who=who, **fields)


def sampling(**fields) -> Act:
    return chat(sampling=common_pb2.Sampling(**fields))


CHATS = [
    ("no messages", chat(message=""), INVALID, "no messages"),
    ("blank message", chat(message=" \n"), INVALID, "empty"),
    ("message and history", chat(history=turns((USER, "hi"))), INVALID, "either"),
    ("unknown role", chat(message="", history=turns((9, "hi"))), INVALID, "role 9"),
    ("role not set", chat(message="", history=turns((0, "hi"))), INVALID, "role 0"),
    (
        "system later",
        chat(message="", history=turns((USER, "a"), (SYSTEM, "b"), (USER, "c"))),
        INVALID,
        "message 1",
    ),
    (
        "ends with the assistant",
        chat(message="", history=turns((USER, "a"), (ASSISTANT, "b"))),
        INVALID,
        "assistant",
    ),
    ("long history", chat(message="", history=turns((USER, "a")) * 257), INVALID, "257"),
    ("long message", chat(message="x" * 65_537), INVALID, "65537 bytes"),
    ("prompt beyond the context", chat(message="x" * 600), INVALID, "context of 512"),
    ("room for no answer", sampling(max_tokens=256, temperature=1), None, ""),
    ("temperature too high", sampling(temperature=2.5), INVALID, "2.5"),
    ("temperature below 0", sampling(temperature=-0.1), INVALID, "-0.1"),
    ("temperature not a number", sampling(temperature=float("nan")), INVALID, "nan"),
    ("temperature infinite", sampling(temperature=float("inf")), INVALID, "inf"),
    ("max_tokens too high", sampling(max_tokens=257), INVALID, "257"),
    ("no request_id", chat(request_id=""), INVALID, "request_id"),
    ("long request_id", chat(request_id="r" * 65), INVALID, "rrr"),
    ("request_id with a space", chat(request_id="a b"), INVALID, "'a b'"),
    ("conversation not a UUID", chat(conversation_id="x"), INVALID, "'x'"),
    ("unknown conversation", chat(conversation_id=NOBODY), NOT_FOUND, NOBODY),
    ("parent without conversation", chat(parent_response_id=NOBODY), INVALID, NOBODY),
    ("unknown wish", chat(comparison=7), INVALID, "comparison 7"),
    ("source of a judge", chat(source=common_pb2.SOURCE_AI), INVALID, "source 3"),
    ("policy on the public listener", chat(policy="policy-v1"), DENIED, "policy-v1"),
    ("malformed user", chat(who=(("x-heliotrope-user", "ALICE"),)), INVALID, "32"),
    ("malformed tenant", chat(who=(*ALICE, ("x-heliotrope-tenant", "A B"))), INVALID, "'A B'"),
]


@pytest.mark.parametrize("act, code, words", [c[1:] for c in CHATS], ids=[c[0] for c in CHATS])
@pytest.mark.asyncio(loop_scope="module")
async def test_chat(world: World, act: Act, code: grpc.StatusCode | None, words: str) -> None:
    if code is None:
        assert await act(world)
        return
    status, message = await refused(world, act)
    assert status == code and words in message


async def refused(world: World, act: Act) -> tuple[grpc.StatusCode, str]:
    """Status and message; nothing was logged, nothing is in flight, and the process answers the next request."""
    before, calls = world.counts(), len(world.engine.calls)
    told = await refusal(act(world))
    assert world.counts() == before and len(world.engine.calls) == calls
    assert not world.server.replies.running
    assert (await world.chat("still there?")).ids
    return told


def vote(on: str = "single", who=ALICE, **kind) -> Act:
    """A judgement on a fresh chat; `ID` in the kind's response_id stands for its first answer."""

    async def act(world: World) -> object:
        wish = chat_pb2.COMPARISON_WISH_ON if on == "pair" else chat_pb2.COMPARISON_WISH_OFF
        answered = await world.chat(comparison=wish)
        world.before = world.counts()  # type: ignore[attr-defined]
        feedback = feedback_pb2.Feedback(**kind)
        for field in ("thumb", "correction", "rating"):
            if feedback.HasField(field) and getattr(feedback, field).response_id == "ID":
                getattr(feedback, field).response_id = answered.ids[0]
        if feedback.correction.text == "SAME":
            feedback.correction.text = answered.texts[answered.ids[0]]
        asked = feedback_pb2.GiveFeedbackRequest(
            request_id=f"v{uuid.uuid4()}",
            feedback_tickets=[answered.started.feedback_ticket],
            feedback=feedback,
        )
        return await world.votes.GiveFeedback(asked, metadata=who)

    return act


def raw(*tickets: str, request_id: str = "raw", **kind) -> Act:
    async def act(world: World) -> object:
        world.before = world.counts()  # type: ignore[attr-defined]
        asked = feedback_pb2.GiveFeedbackRequest(
            request_id=request_id, feedback_tickets=tickets, feedback=feedback_pb2.Feedback(**kind)
        )
        return await world.votes.GiveFeedback(asked, metadata=ALICE)

    return act


def thumb(response_id: str = "ID") -> feedback_pb2.Thumb:
    return feedback_pb2.Thumb(response_id=response_id, up=True)


def rating(**fields) -> feedback_pb2.Rating:
    return feedback_pb2.Rating(response_id="ID", **fields)


def correction(text: str) -> feedback_pb2.Correction:
    return feedback_pb2.Correction(response_id="ID", text=text)


async def other_prompts(world: World) -> object:
    one, two = await world.chat("one"), await world.chat("two")
    world.before = world.counts()  # type: ignore[attr-defined]
    asked = feedback_pb2.GiveFeedbackRequest(
        request_id="mixed", feedback_tickets=[c.started.feedback_ticket for c in (one, two)],
        feedback=feedback_pb2.Feedback(ranking=feedback_pb2.Ranking(response_ids=[one.ids[0], two.ids[0]])),
    )  # fmt: skip
    return await world.votes.GiveFeedback(asked, metadata=ALICE)


VOTES = [
    ("no kind", vote(), INVALID, "no kind"),
    ("no identity", vote(thumb=thumb(), who=()), NO_IDENTITY, "x-heliotrope-user"),
    ("another person's ticket", vote(thumb=thumb(), who=BOB), DENIED, "someone else"),
    ("forged ticket", raw("abc", thumb=thumb()), DENIED, "abc"),
    ("empty ticket", raw("", thumb=thumb()), DENIED, "empty"),
    ("no ticket", raw(thumb=thumb()), INVALID, "0 feedback_tickets"),
    ("two tickets for a thumb", raw("a", "b", thumb=thumb()), INVALID, "2 feedback_tickets"),
    ("bad request_id", raw("a", request_id="", thumb=thumb()), INVALID, "request_id"),
    ("id never issued", vote(thumb=thumb(NOBODY)), NOT_FOUND, NOBODY),
    ("comparison of one answer", vote(comparison=CHOICE_A), INVALID, "two answers"),
    ("no choice", vote("pair", comparison=feedback_pb2.Comparison()), INVALID, "choice 0"),
    ("unknown choice", vote("pair", comparison=feedback_pb2.Comparison(choice=9)), INVALID, "choice 9"),  # type: ignore[arg-type]
    (
        "strength 4",
        vote("pair", comparison=feedback_pb2.Comparison(choice=1, strength=4)),
        INVALID,
        "strength 4",
    ),  # type: ignore[arg-type]
    (
        "strong tie",
        vote("pair", comparison=feedback_pb2.Comparison(choice=3, strength=1)),
        INVALID,
        "CHOICE_TIE",
    ),  # type: ignore[arg-type]
    ("ranking of one", vote(ranking=feedback_pb2.Ranking(response_ids=[NOBODY])), INVALID, "1 responses"),
    (
        "ranking with a repeat",
        vote(ranking=feedback_pb2.Ranking(response_ids=[NOBODY] * 2)),
        INVALID,
        "repeats",
    ),
    (
        "ranking of unknown ids",
        vote(ranking=feedback_pb2.Ranking(response_ids=[NOBODY, "x"])),
        NOT_FOUND,
        NOBODY,
    ),
    ("ranking over prompts", other_prompts, INVALID, "different prompts"),
    ("empty correction", vote(correction=correction("")), INVALID, "empty"),
    ("correction that corrects nothing", vote(correction=correction("SAME")), INVALID, "equals"),
    ("long correction", vote(correction=correction("x" * 65_537)), INVALID, "65537"),
    ("rating of nothing", vote(rating=rating()), INVALID, "grades nothing"),
    ("helpfulness 6", vote(rating=rating(helpfulness=6)), INVALID, "helpfulness 6"),
    ("presentation 4", vote(rating=rating(presentation=4)), INVALID, "presentation 4"),
    ("nine reasons", vote(thumb=thumb(), reasons=["r"] * 9), INVALID, "reasons"),
    ("reason in capitals", vote(thumb=thumb(), reasons=["BAD"]), INVALID, "BAD"),
    ("long comment", vote(thumb=thumb(), comment="x" * 4_097), INVALID, "4097"),
]


@pytest.mark.parametrize("act, code, words", [v[1:] for v in VOTES], ids=[v[0] for v in VOTES])
@pytest.mark.asyncio(loop_scope="module")
async def test_feedback(world: World, act: Act, code: grpc.StatusCode, words: str) -> None:
    status, message = await refusal(act(world))
    assert status == code and words in message
    assert world.counts() == world.before  # type: ignore[attr-defined]


def draw(adapter: str = "base", **fields) -> Act:
    whole = {"n": 1, "prompts": [sampler_pb2.Prompt(messages=turns((USER, "hi")))], **fields}
    return lambda world: rest(world.samples.Draw(sampler_pb2.DrawRequest(adapter=adapter, **whole)))


def ids(*token_ids: int) -> list[sampler_pb2.Prompt]:
    return [sampler_pb2.Prompt(token_ids=token_ids)]


PRIVATE = [
    ("no prompts", draw(prompts=[]), INVALID, "0 prompts"),
    ("n = 0", draw(n=0), INVALID, "n 0"),
    ("n = 65", draw(n=65), INVALID, "n 65"),
    ("empty prompt", draw(prompts=[sampler_pb2.Prompt()]), INVALID, "prompt 0"),
    ("id beyond the vocabulary", draw(prompts=ids(1, 258)), INVALID, "258"),
    ("prompt beyond the context", draw(prompts=ids(*[1] * 513)), INVALID, "context of 512"),
    ("draw too hot", draw(sampling=common_pb2.Sampling(temperature=3)), INVALID, "3.0"),
    ("unknown adapter", draw("best"), NOT_FOUND, "'best'"),
    ("unknown version", draw("policy-v7"), NOT_FOUND, "policy-v7"),
    ("unknown shadow", draw("shadow:" + "0" * 64), NOT_FOUND, "0000"),
    ("shadow by no digest", draw("shadow:../../etc"), NOT_FOUND, "../../etc"),
    ("release of no digest", lambda w: w.samples.ReleaseShadow(sampler_pb2.ReleaseShadowRequest(digest="..")), NOT_FOUND, ".."),
    ("get of no version", lambda w: w.policies.GetPolicy(policy_pb2.GetPolicyRequest(policy_version="v1")), INVALID, "'v1'"),
    ("get of an unknown one", lambda w: w.policies.GetPolicy(policy_pb2.GetPolicyRequest(policy_version="policy-v8")), NOT_FOUND, "v8"),
    ("promote an unknown one", lambda w: w.policies.PromotePolicy(policy_pb2.PromotePolicyRequest(policy_version="policy-v8")), NOT_FOUND, "v8"),
    ("promote what is live", lambda w: w.policies.PromotePolicy(policy_pb2.PromotePolicyRequest(policy_version="policy-v0")), WRONG_STATE, "live"),
    ("roll back the base", lambda w: w.policies.RollBackPolicy(policy_pb2.RollBackPolicyRequest()), WRONG_STATE, "base"),
    ("long reason", lambda w: w.policies.RollBackPolicy(policy_pb2.RollBackPolicyRequest(reason="x" * 1025)), INVALID, "1025"),
    ("ResumeChat", lambda w: rest(w.chats.ResumeChat(chat_pb2.ResumeChatRequest())), UNBUILT, "Chat"),
    ("ingest without a role", lambda w: w.ingest.IngestFeedback(ingest_pb2.IngestFeedbackRequest()), DENIED, "x-heliotrope-role"),
    ("ingest nothing", lambda w: w.ingest.IngestFeedback(ingest_pb2.IngestFeedbackRequest(), metadata=(("x-heliotrope-role", "import"),)), INVALID, "0 items"),
    ("export to nowhere", lambda w: rest(w.admin.Export(admin_pb2.ExportRequest(format="xml"))), INVALID, "dpo, kto, reward, sft"),
    ("forget nobody", lambda w: w.admin.Forget(admin_pb2.ForgetRequest()), INVALID, "feedback tail"),
    ("forget without identity", lambda w: w.votes.ForgetMe(feedback_pb2.ForgetMeRequest(request_id="r")), NO_IDENTITY, "identity"),
]  # fmt: skip


@pytest.mark.parametrize("act, code, words", [p[1:] for p in PRIVATE], ids=[p[0] for p in PRIVATE])
@pytest.mark.asyncio(loop_scope="module")
async def test_private(world: World, act: Act, code: grpc.StatusCode, words: str) -> None:
    status, message = await refused(world, act)
    assert status == code and words in message


@pytest.mark.asyncio(loop_scope="module")
async def test_another_persons_conversation(world: World) -> None:
    answered = await world.chat()
    conversation = answered.started.conversation_id
    for who in (BOB, ()):
        status, message = await refused(world, chat(who=who, conversation_id=conversation))
        assert status == DENIED and conversation in message
    asked = chat(conversation_id=conversation, parent_response_id=NOBODY)
    status, message = await refused(world, asked)
    assert status == NOT_FOUND and NOBODY in message


@pytest.mark.asyncio(loop_scope="module")
async def test_a_message_beyond_the_transport_is_refused_by_it(world: World) -> None:
    call = world.chats.Chat(request("x" * (2 * 1024 * 1024 + 1)), metadata=ALICE)
    status, message = await refusal(rest(call))
    assert status == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in message


@pytest.mark.parametrize("body", [b"\xff", b"\x22\x02\xc3\x28"], ids=["no protobuf", "message is not UTF-8"])
@pytest.mark.asyncio(loop_scope="module")
async def test_bytes_that_are_no_message_are_the_callers_fault(world: World, body: bytes) -> None:
    call = world.public.unary_stream("/heliotrope.v1.ChatService/Chat")(body)
    status, message = await refusal(call.read())
    assert status == INVALID and "see the proto files" in message


@pytest.mark.asyncio(loop_scope="module")
async def test_private_services_are_not_on_the_public_listener(world: World) -> None:
    stub = world.public.unary_unary("/heliotrope.v1.PolicyService/ListPolicies")
    assert (await refusal(stub(b"")))[0] == UNBUILT

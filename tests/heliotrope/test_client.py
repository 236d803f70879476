"""The client against scripted services on real sockets: identity, streams, and errors that a person can act on."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import grpc
import pytest

from heliotrope import errors
from heliotrope.client import (
    PRIVATE,
    PUBLIC,
    AsyncClient,
    Client,
    chat_request,
    comparison,
    draw_request,
    explain,
    feedback_request,
)
from heliotrope.config import Config
from heliotrope.identity_file import identity_path, load_identity
from heliotrope.turn import Turn
from heliotrope.v1 import admin_pb2, chat_pb2, common_pb2, feedback_pb2, policy_pb2
from tests.heliotrope.scripted_loop import Scripted, dull, good, scripted_loop

USER = "0123456789abcdef" * 2


class Refusal(grpc.RpcError):
    """A failed call as gRPC tells it."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


def test_defaults_are_those_of_the_configuration() -> None:
    assert (Config().serving.public_address, Config().serving.private_address) == (PUBLIC, PRIVATE)


def test_an_identity_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "identity"
    first = load_identity(path)
    assert first == load_identity(path) and len(first) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_spoilt_identity_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    path.write_text("me")
    with pytest.raises(errors.ConfigError, match=f"{path} holds no identity.*delete it"):
        load_identity(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.ConfigError, match="cannot make the identity file.*set XDG_CONFIG_HOME"):
        load_identity(tmp_path / "file" / "identity")


def test_the_identity_lies_in_the_configuration_folder() -> None:
    assert identity_path().parts[-2:] == ("heliotrope", "identity")


@pytest.mark.parametrize(
    ("code", "details", "kind", "says"),
    [
        ("INVALID_ARGUMENT", "temperature 3 is out of range;\n give 0 to 2", errors.InvalidInput, "^temperature 3 is out of range; give 0 to 2$"),
        ("NOT_FOUND", "there is no policy-v9", errors.NotFound, "policy-v9"),
        ("UNAVAILABLE", "failed to connect to all addresses", errors.Unavailable, "a:1: is serving running\\? start it with `make run`"),
        ("UNAVAILABLE", "the engine died; restart serving", errors.Unavailable, "^the engine died; restart serving$"),
        ("DEADLINE_EXCEEDED", "", errors.Unavailable, "a:1 did not answer in time"),
        ("UNIMPLEMENTED", "Export is not built yet", errors.Unimplemented, "not built"),
        ("INTERNAL", "", errors.HeliotropeError, "a:1 answered INTERNAL without a reason; see the log"),
    ],
)  # fmt: skip
def test_a_failed_call_becomes_one_line_with_the_remedy(code, details, kind, says) -> None:
    with pytest.raises(kind, match=says) as raised:
        raise explain(Refusal(grpc.StatusCode[code], details), "a:1")
    assert type(raised.value) is kind and "\n" not in str(raised.value)


async def test_blocking_calls_chat_judge_and_take_back() -> None:
    script = Scripted()

    def talk(public: str, private: str) -> tuple[Turn, str]:
        with Client(public, private, USER) as client:
            turn = Turn()
            for chunk in client.chat(chat_request("Why?", comparison=chat_pb2.COMPARISON_WISH_ON)):
                turn.push(chunk)
            turn.end()
            given = client.give(feedback_request(turn.ticket, comparison(feedback_pb2.CHOICE_B, 2)))
            client.retract(given.feedback_id)
            return turn, given.feedback_id

    async with scripted_loop(script) as addresses:
        turn, feedback_id = await asyncio.to_thread(talk, *addresses)
    assert sorted(text.strip() for text in turn.answers()) == sorted([good("Why?"), dull("Why?")])
    assert turn.compared and turn.finished and all(turn.whole.values())
    assert turn.tokens[turn.response_ids[0]] == len(turn.answers()[0].split())
    assert [v.feedback.comparison.strength for v in script.votes.values()] == [2]
    assert script.users == [USER] and script.retracted == [feedback_id]


async def test_blocking_private_calls() -> None:
    def look(public: str, private: str) -> None:
        with Client(public, private) as client:
            assert client.status().live == "policy-v0"
            assert [p.policy_version for p in client.policies().policies] == ["policy-v0"]
            assert client.promote(policy_pb2.PromotePolicyRequest(policy_version="policy-v1")).epoch == 4
            rows = list(client.tail(admin_pb2.TailFeedbackRequest(stop_at_end=True)))
            assert [row.position for row in rows] == [7, 8]
            with pytest.raises(errors.NotFound, match="there is no policy-v9; list them"):
                client.policy("policy-v9")
            with pytest.raises(errors.FailedPrecondition, match="nothing to roll back"):
                client.roll_back(policy_pb2.RollBackPolicyRequest())

    async with scripted_loop(Scripted()) as addresses:
        await asyncio.to_thread(look, *addresses)


async def test_people_share_channels_and_keep_their_identities() -> None:
    script = Scripted()
    async with scripted_loop(script) as (public, private), AsyncClient(public, private) as client:
        for user in ("a" * 32, "b" * 32):
            turn = Turn()
            async for chunk in client.as_person(user).chat(chat_request("Why?")):
                turn.push(chunk)
            await client.as_person(user).give(
                feedback_request(turn.ticket, comparison(feedback_pb2.CHOICE_A))
            )
        with pytest.raises(errors.Unauthenticated, match="send x-heliotrope-user"):
            await client.give(feedback_request(turn.ticket, comparison(feedback_pb2.CHOICE_A)))
    assert script.users == ["a" * 32, "b" * 32]


async def test_samples_come_with_their_prompt_and_number() -> None:
    request = draw_request("base", ["One?", "Two?"], 2, common_pb2.Sampling(temperature=0.8, max_tokens=8))
    async with scripted_loop(Scripted()) as (public, private), AsyncClient(public, private) as client:
        drawn = [sample async for sample in client.draw(request)]
    assert sorted((s.prompt_index, s.sample_index) for s in drawn) == [(0, 0), (0, 1), (1, 0), (1, 1)]


async def test_closing_a_stream_early_stops_the_generation() -> None:
    # The version is never swapped in, so a single chat would wait for ever; cancelling must end it on the server.
    script = Scripted(votes_for_version=0, chats_for_swap=99)
    async with scripted_loop(script) as (public, private), AsyncClient(public, private) as client:
        stream = client.chat(chat_request("Why?"))
        waiting = asyncio.ensure_future(anext(stream))  # type: ignore[arg-type]
        while not script.at_once:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(5):
            while script.at_once:
                await asyncio.sleep(0)
    assert script.at_once == 0


def test_nobody_there_says_how_to_start_it() -> None:
    with (
        Client(private="127.0.0.1:9") as client,
        pytest.raises(errors.Unavailable, match="127.0.0.1:9.*make run"),
    ):
        client.status()

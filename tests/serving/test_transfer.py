"""Preferences in from foreign files and out to trainers' columns, through the command and a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from benchmarks.scripted_engine import number
from feedback.join import Joiner
from heliotrope.cli import transfer
from heliotrope.v1 import chat_pb2, common_pb2, feedback_pb2, ingest_pb2
from tests.serving.running import World, refusal, running

ROLE = (("x-heliotrope-role", "import"),)
PAIRS = Path(__file__).parents[3] / "shared" / "data" / "pairs.jsonl"
ON = chat_pb2.COMPARISON_WISH_ON
A = feedback_pb2.Comparison(choice=feedback_pb2.CHOICE_A)


@pytest.fixture
async def world(tmp_path: Path):
    async with running(tmp_path / "state") as world:
        engine = world.engine
        engine.script = lambda prompt, adapter, name: [
            engine.words[number(name, i) % len(engine.words)] for i in range(6)
        ]  # two answers to one question differ
        yield world


async def command(world: World, run: Callable[..., int], *arguments: object) -> int:
    """A command of the CLI against this server, off the loop that serves it."""
    return await asyncio.to_thread(run, *arguments, world.config.serving.private_address)


def item(name: str = "i1", **fields) -> ingest_pb2.IngestedItem:
    user = common_pb2.Message(role=common_pb2.ROLE_USER, content="why?")
    whole = {"messages": [user], "responses": ["yes", "no"], "feedback": feedback_pb2.Feedback(comparison=A)}
    return ingest_pb2.IngestedItem(item_id=name, origin="set", **(whole | fields))


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def joined(world: World) -> Joiner:
    joiner = Joiner(("imported", "human"), 0.15)
    for topic, what in (("exchanges", "response_served"), ("feedback", "feedback_given")):
        for event in world.events(topic, what):
            joiner.add(event)
    return joiner


async def test_a_batch_is_recorded_once_and_bad_items_keep_nobody_out(world: World) -> None:
    thumb = feedback_pb2.Feedback(thumb=feedback_pb2.Thumb(response_id="1", up=True))
    batch = [item("a"), item("b", responses=["yes"]), item("c", responses=["yes"], feedback=thumb), item("a")]
    request = ingest_pb2.IngestFeedbackRequest(items=batch)
    first = await world.ingest.IngestFeedback(request, metadata=ROLE)
    again = await world.ingest.IngestFeedback(request, metadata=ROLE)
    assert (first.recorded, first.repeated_items, again.recorded, again.repeated_items) == (1, 1, 0, 2)
    assert [(r.index, r.reason[:28]) for r in first.rejected] == [
        (1, "a comparison of 1 responses;"), (2, 'the judgement names response'),
    ]  # fmt: skip
    assert len(world.events("exchanges", "response_served")) == 2


async def test_an_imported_pair_is_a_preference_on_ids_of_the_chat_format(world: World) -> None:
    await world.ingest.IngestFeedback(ingest_pb2.IngestFeedbackRequest(items=[item()]), metadata=ROLE)
    (preference,) = joined(world).preferences()
    chat = world.server.replies.format
    assert (preference.source, preference.chosen_version) == ("imported", "")
    assert preference.chosen_ids == (*chat.response_ids("yes"), *chat.eos_ids)
    assert preference.user == preference.id, "an unknown judge is one of their own"
    served = world.events("exchanges", "response_served")[0]
    assert served.origin == "set" and not served.response_served.logprobs


async def test_judges_have_pseudonyms_and_one_prompt_is_one_conversation(world: World) -> None:
    items = [item("a", judge="Ann"), item("b", judge="Ann", responses=["1", "2"]), item("c", judge="Bob")]
    await world.ingest.IngestFeedback(ingest_pb2.IngestFeedbackRequest(items=items), metadata=ROLE)
    votes = world.events("feedback", "feedback_given")
    assert len({v.user for v in votes}) == 2 and len({v.conversation_id for v in votes}) == 1
    assert b"Ann" not in b"".join(v.SerializeToString() for v in votes)


async def test_a_restart_offers_no_imported_conversation(world: World, tmp_path: Path) -> None:
    await world.ingest.IngestFeedback(ingest_pb2.IngestFeedbackRequest(items=[item()]), metadata=ROLE)
    await world.server.recover()
    assert len(world.server.replies.conversations) == 0


async def test_a_role_that_is_none_ingests_nothing(world: World) -> None:
    request = ingest_pb2.IngestFeedbackRequest(items=[item()])
    call = world.ingest.IngestFeedback(request, metadata=(("x-heliotrope-role", "chef"),))
    status, message = await refusal(call)
    assert status == grpc.StatusCode.PERMISSION_DENIED and "'chef'" in message


async def test_the_command_reports_bad_lines_by_number_and_takes_the_rest(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
    path = write(tmp_path / "set.jsonl", good, {"x": 1}, good | {"chosen": " "}, good | {"chosen": "So."})
    assert await command(world, transfer.import_, path, "", "judge") == 0
    told = capsys.readouterr()
    assert "2 recorded, 0 known before, 2 malformed" in told.out
    assert f"{path}:2: the columns x" in told.err and f"{path}:3: response 0 is empty" in told.err
    assert await command(world, transfer.import_, path, "", "judge") == 0
    assert "0 recorded, 2 known before" in capsys.readouterr().out


@pytest.mark.skipif(not PAIRS.is_file(), reason="the shared preference pairs are not beside this checkout")
async def test_real_human_pairs_go_in_and_come_out_again(world: World, tmp_path: Path) -> None:
    lines = PAIRS.read_text().splitlines()[:60]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(lines))
    assert await command(world, transfer.import_, path, "", "judge") == 0
    assert await command(world, transfer.export, "dpo", tmp_path / "out.jsonl", ["imported"]) == 0
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    wanted = {(row["chosen"], row["rejected"]) for row in map(json.loads, lines)}
    assert {(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in out} == wanted


async def judged(world: World) -> str:
    """A comparison won by A, a thumb down, and a correction; the text of the winner."""
    two = await world.chat("which?", comparison=ON)
    await world.give(two.started.feedback_ticket, comparison=A)
    one = await world.chat("one?")
    thumb = feedback_pb2.Thumb(response_id=one.ids[0], up=False)
    await world.give(one.started.feedback_ticket, thumb=thumb)
    correction = feedback_pb2.Correction(response_id=one.ids[0], text="Better.")
    await world.give(one.started.feedback_ticket, correction=correction)
    unasked = await world.chat("secret?", comparison=ON, consent=False)
    await world.give(unasked.started.feedback_ticket, comparison=A)
    return two.texts[two.ids[0]]


async def test_each_format_has_its_columns_and_only_what_may_be_learned_from(
    world: World, tmp_path: Path
) -> None:
    won, rows = await judged(world), {}
    for form in ("dpo", "reward", "kto", "sft"):
        assert await command(world, transfer.export, form, tmp_path / form, ["human"]) == 0
        (rows[form],) = [json.loads(line) for line in (tmp_path / form).read_text().splitlines()]
    which, one = ([{"role": "user", "content": text}] for text in ("which?", "one?"))
    answer = [{"role": "assistant", "content": won}]
    assert (rows["dpo"]["prompt"], rows["dpo"]["chosen"]) == (which, answer)
    assert rows["reward"]["chosen"] == which + answer and "prompt" not in rows["reward"]
    assert (rows["kto"]["prompt"], rows["kto"]["label"]) == (one, False)
    assert rows["sft"]["completion"] == [{"role": "assistant", "content": "Better."}]


async def test_nothing_to_export_writes_no_file(world: World, tmp_path: Path) -> None:
    assert await command(world, transfer.export, "dpo", tmp_path / "out.jsonl", ["human"]) == 1
    assert list(tmp_path.glob("out*")) == []


async def test_parquet_and_lines_hold_the_same_and_come_in_again(world: World, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow.parquet")
    await judged(world)
    for name in ("out.parquet", "out.jsonl"):
        assert await command(world, transfer.export, "dpo", tmp_path / name, ["human"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert arrow.read_table(tmp_path / "out.parquet").to_pylist() == lines
    assert await command(world, transfer.import_, tmp_path / "out.parquet", "again", "judge") == 0
    mine, theirs = ([p for p in joined(world).preferences() if p.source == s] for s in ("human", "imported"))
    assert theirs[0].prompt_ids == mine[0].prompt_ids and theirs[0].chosen_ids == mine[0].chosen_ids

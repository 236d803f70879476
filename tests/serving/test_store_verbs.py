"""Lineage, replay and quarantine through the running server, as an operator asks for them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import grpc
import pytest

from feedback.rules import training_set
from heliotrope.cli import stores
from heliotrope.registry import Registry
from heliotrope.v1 import admin_pb2, feedback_pb2
from tests.heliotrope.small_adapters import stage
from tests.serving.running import World, running, small_format


@pytest.fixture
async def world(tmp_path: Path):
    async with running(tmp_path / "state", "rollout.mode=manual") as world:
        yield world


async def thumb(world: World) -> str:
    answered = await world.chat()
    given = await world.give(
        answered.started.feedback_ticket, thumb=feedback_pb2.Thumb(response_id=answered.ids[0], up=True)
    )
    return given.feedback_id


def publish(world: World, folder: Path, **changes) -> str:
    """A version as the learner makes it of all that was said so far."""
    kept = training_set(world.config, small_format(), folder / "learner.db")
    kept.follow(world.server.services.admin.exports.log)
    fields = {
        "example_ids": tuple(e.id for e in kept.examples()), "examples_hash": kept.hash(),
        "log_positions": kept.positions | {"policy/0": 0}, "seeds": {"learner": 5}, "parent": "policy-v0",
    } | changes  # fmt: skip
    write = stage(fill=0.1)
    made = Registry(world.config.paths.registry).publish(lambda f: write(f).model_copy(update=fields))
    kept.close()
    return made.name


async def lineage(world: World, name: str) -> dict:
    found = await world.admin.GetLineage(admin_pb2.GetLineageRequest(name=name))
    return json.loads(found.lineage_json)


async def test_a_version_names_its_events_and_an_event_its_versions(world: World, tmp_path: Path) -> None:
    votes = [await thumb(world), await thumb(world)]
    first = publish(world, tmp_path)
    child = publish(world, tmp_path, parent=first, example_ids=(), examples_hash="")
    found = await lineage(world, first)
    assert sorted(e["event"] for e in found["events"]) == sorted(votes) and found["seeds"] == {"learner": 5}
    assert all(e["at"].startswith("feedback/0@") and len(e["responses"]) == 1 for e in found["events"])
    assert (await lineage(world, child))["parents"] == [first, "policy-v0"]
    back = await lineage(world, votes[0])
    assert (back["trained_on_it"], back["inherit_from_those"]) == ([first], [child])
    response = found["events"][0]["responses"][0]
    assert (await lineage(world, response))["trained_on_it"] == [first]
    with pytest.raises(grpc.aio.AioRpcError, match="no event 'elsewhere' is behind any version"):
        await lineage(world, "elsewhere")


async def test_a_replay_agrees_with_the_store_and_with_every_version(world: World, tmp_path: Path) -> None:
    await thumb(world)
    good = publish(world, tmp_path)
    await thumb(world)
    done = await world.admin.Replay(admin_pb2.ReplayRequest())
    assert done.agree and done.hash_before == done.hash_after and done.examples == 2
    assert [(v.policy_version, v.agrees, v.examples) for v in done.versions] == [(good, True, 1)]
    bad = publish(world, tmp_path, examples_hash="0" * 64)
    again = await world.admin.Replay(admin_pb2.ReplayRequest())
    assert not again.agree and [v.policy_version for v in again.versions if not v.agrees] == [bad]


async def test_a_replay_puts_a_spoiled_store_right_and_says_so(world: World) -> None:
    await thumb(world)
    assert (await world.admin.Replay(admin_pb2.ReplayRequest())).agree
    spoil = sqlite3.connect(world.config.paths.read_models)
    spoil.execute("DELETE FROM examples")
    spoil.commit()
    spoil.close()
    assert not (await world.admin.Replay(admin_pb2.ReplayRequest())).agree
    assert (await world.admin.Replay(admin_pb2.ReplayRequest())).agree


async def test_quarantine_is_listed_with_its_codes_and_looked_at_again(world: World) -> None:
    await thumb(world)
    raw = sqlite3.connect(world.config.paths.log)
    raw.execute(
        "INSERT INTO events (topic, key, event_id, crc, value) VALUES ('feedback', 'k', 'x', 4278190080, x'ff')"
    )
    raw.commit()
    raw.close()
    listed = await world.admin.ListQuarantine(admin_pb2.ListQuarantineRequest(limit=10))
    assert dict(listed.counts) == {"unparsable": 1} and listed.records[0].place == "feedback/0"
    again = await world.admin.ReplayQuarantine(admin_pb2.ReplayQuarantineRequest())
    assert (again.taken, again.stay) == (0, 1)
    with pytest.raises(grpc.aio.AioRpcError, match="no reason 'rude'"):
        await world.admin.ListQuarantine(admin_pb2.ListQuarantineRequest(limit=1, reason="rude"))
    with pytest.raises(grpc.aio.AioRpcError, match="limit is 0"):
        await world.admin.ListQuarantine(admin_pb2.ListQuarantineRequest())


async def test_the_command_line_says_it_in_words(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vote, address = await thumb(world), world.config.serving.private_address
    name = publish(world, tmp_path)
    await asyncio.to_thread(stores.lineage, vote, address)
    assert json.loads(capsys.readouterr().out)["trained_on_it"] == [name]
    assert await asyncio.to_thread(stores.replay, address) == 0
    said = capsys.readouterr().out
    assert f"{name}: 1 examples, agrees" in said and "`python -m learner replay`" in said
    await asyncio.to_thread(stores.quarantined, 5, 0, "", address)
    await asyncio.to_thread(stores.replay_quarantine, address)
    said = capsys.readouterr().out
    assert "In quarantine: nothing" in said and "0 records could be used now, 0 stay" in said
    assert (
        "Not sent to the broker" not in said and "The learner looks again at its own at each start." in said
    )

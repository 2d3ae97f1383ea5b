"""Streams and durables: made exactly as the platform's Go code makes them, and left as they were found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .events import KNOWLEDGE, batches
from .peers import KINDS, Kind, Place, consuming, declare, difference, produce

Places = Callable[..., Place]
TOPICS = [KNOWLEDGE, "coze.knowledge.7512345678901234567.indexed"]


async def join(kind: Kind, here: Place, number: int) -> None:
    """Sends an event and handles one: the stream and the durable are made if they are missing."""
    await produce(kind, here, batches(here.topic, 1, start=number))
    async with consuming(kind, here, count=1) as worker:
        await worker.ended()
    assert len(worker.handled) == 1


async def by_go(go: Place) -> dict[str, str]:
    """What Go makes of the same names on a fresh server."""
    with Server("-js") as fresh:
        here = Place(fresh.url, go.topic, go.group, True, go.go)
        await declare(here)
        configs = await here.configs()
        return {name: configs[name] for name in ("stream", "durable")}


async def test_what_go_makes(place: Places) -> None:
    """The yardstick itself: what design/platform.md lists, and what the client library adds to it."""
    made = await by_go(place("coze.agent.7.ask", "cg"))
    stream, durable = json.loads(made["stream"]), json.loads(made["durable"])
    want = {
        "name": "coze_agent_7_ask_STREAM",
        "subjects": ["coze.agent.7.ask"],
        "storage": "file",
        "retention": "limits",
        "max_age": 86_400_000_000_000,
        "max_msgs": 1_000_000,
        "max_bytes": 1 << 30,
        "num_replicas": 1,
        "duplicate_window": 120_000_000_000,
    }
    assert {k: stream[k] for k in want} == want
    want = {
        "durable_name": "cg",
        "filter_subject": "coze.agent.7.ask",
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": 30_000_000_000,
        "max_deliver": -1,
        # Not the server's default of 1000: nats.go asks for as many as its channel holds.
        "max_ack_pending": 65_536,
    }
    assert {k: durable[k] for k in want} == want


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("kind", KINDS)
async def test_made_alike(place: Places, kind: Kind, topic: str) -> None:
    """Every setting the server keeps is the same, to the byte, whoever made stream and durable on a fresh server."""
    here = place(topic, "cg_knowledge")
    await join(kind, here, 0)
    assert difference(await here.configs(), await by_go(here)) == ""


@pytest.mark.parametrize("topic", TOPICS)
async def test_made_alike_by_a_consumer_that_comes_first(place: Places, topic: str) -> None:
    """Our consumer comes before any producer: the stream is Go's all the same."""
    here = place(topic, "cg_knowledge")
    async with eb.connect(here.url, jetstream=True) as bus, bus.consumer(topic, group="cg_knowledge"):
        assert difference(await here.configs(), await by_go(here)) == ""


@pytest.mark.parametrize("first", KINDS)
async def test_left_as_found(place: Places, first: Kind) -> None:
    """Whoever comes later sends, consumes and leaves: the same stream and durable, unaltered, not made anew."""
    here = place(KNOWLEDGE, "cg_knowledge")
    await join(first, here, 0)
    found = await here.configs()
    for number, kind in enumerate((*KINDS, first), start=1):
        await join(kind, here, number)
        assert difference(await here.configs(), found) == "", f"after {kind}"


async def test_all_at_once(place: Places) -> None:
    """All three come to a fresh server in the same moment: nobody fails, and what is there is Go's."""
    here = place(KNOWLEDGE, "cg_knowledge")
    await asyncio.gather(*[produce(kind, here, batches(KNOWLEDGE, 1, start=n)) for n, kind in enumerate(KINDS)])

    async def consume(kind: Kind) -> None:
        async with consuming(kind, here) as worker:
            await worker.stop()

    await asyncio.gather(*map(consume, KINDS))
    assert difference(await here.configs(), await by_go(here)) == ""


async def test_another_groups_settings_are_kept(place: Places) -> None:
    """A durable an operator made with other settings is bound by all three as it is."""
    here = place(KNOWLEDGE, "cg_knowledge")
    await declare(here)
    config = {"durable_name": "cg_operator", "ack_policy": "explicit", "ack_wait": 60_000_000_000, "max_ack_pending": 7}
    theirs = place(KNOWLEDGE, "cg_operator")
    call = f"CONSUMER.DURABLE.CREATE.{here.stream}.cg_operator"
    await theirs.api(call, {"stream_name": here.stream, "config": config})
    found = await theirs.configs()
    assert json.loads(found["durable"])["max_ack_pending"] == 7
    for number, kind in enumerate(KINDS):
        await join(kind, theirs, number)
        assert difference(await theirs.configs(), found) == "", f"after {kind}"

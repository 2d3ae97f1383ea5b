"""Events between the platform's Go services and ours: each handled once, exactly as it was sent, whoever sends."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import nats_eventbus as eb
import pytest

from .events import APP, BIG, KNOWLEDGE, RESOURCE, Batch, batches, identity, knowledge
from .peers import KINDS, Handled, Kind, Place, Worker, consuming, declare, process, produce, until

Places = Callable[..., Place]
COUNT = 5_000
FLOW = "coze.workflow.7512345678901234567.done"
OURS: tuple[Kind, ...] = ("python", "node")
modes = pytest.mark.parametrize("jetstream", [True, False], ids=["jetstream", "core"])
ours = pytest.mark.parametrize("kind", OURS)


def check_key(m: Handled, key: str | None, sender: Kind, jetstream: bool) -> None:
    """The key, as our workers give it, and as Go's see it in the headers."""
    platform = sender == "go" and jetstream
    header, id = m.headers.get("Sharding-Key"), m.headers.get("Nats-Msg-Id")
    assert header == (None if platform else key)
    if m.kind != "go":
        assert m.key == key
    if platform:
        assert (id is None) == (key is None)
        assert id is None or id.rpartition("-")[0] == key
    else:
        assert (id is not None) == jetstream, "ours carries an id of its own in JetStream mode"


def check_handled(place: Place, sent: dict[Kind, list[Batch]], handled: Iterable[Handled]) -> None:
    """Each event once, on its first delivery, as it was sent."""
    expected: dict[int, tuple[dict[str, Any], str | None, Kind]] = {
        identity(e): (e, b.key, kind) for kind, bs in sent.items() for b in bs for e in b.bodies
    }
    seen: collections.Counter[int] = collections.Counter()
    for m in handled:
        event, key, sender = expected[identity(m.event)]
        seen[identity(event)] += 1
        assert json.dumps(m.event, sort_keys=True) == json.dumps(event, sort_keys=True)
        assert (m.topic, m.group, m.attempt) == (place.topic, place.group, 1)
        check_key(m, key, sender, place.jetstream)
    assert [id for id, n in seen.items() if n != 1] == []
    assert len(seen) == len(expected)


async def check_settled(place: Place, count: int) -> None:
    """By the server's books: each stored message was delivered once and acked."""
    end = time.monotonic() + 10
    while (info := await place.api(f"CONSUMER.INFO.{place.stream}.{place.group}"))["ack_floor"]["stream_seq"] != count:
        assert time.monotonic() < end, info
    assert info["delivered"] == info["ack_floor"] | {"last_active": info["delivered"]["last_active"]}
    assert info["delivered"]["consumer_seq"] == count
    assert (info["num_ack_pending"], info["num_redelivered"], info["num_pending"]) == (0, 0, 0)


async def handle_all(place: Place, workers: list[Worker], count: int, seconds: float = 40) -> list[Handled]:
    """What the workers handled, once they have handled so many and were stopped."""

    def so_far() -> int:
        return sum(len(w.handled) for w in workers)

    await until(
        lambda: so_far() >= count or not all(w.alive() for w in workers),
        seconds,
        f"{count} handled:",
        lambda: {w.kind: len(w.handled) for w in workers},
    )
    if place.jetstream and so_far() >= count:
        await check_settled(place, count)
    for w in workers:
        await w.stop()
    return [m for w in workers for m in w.handled]


@modes
@pytest.mark.parametrize(
    ("sender", "receiver", "topic"),
    [("go", "python", KNOWLEDGE), ("python", "go", APP), ("go", "node", FLOW), ("node", "go", RESOURCE)],
)
async def test_one_way(place: Places, sender: Kind, receiver: Kind, topic: str, jetstream: bool) -> None:
    """5 000 events from one language to another; the sender makes the stream, the receiver the durable."""
    here = place(topic, "cg_interop", jetstream=jetstream)
    sent = batches(topic, COUNT)
    # Nothing is heard in core mode before the receiver is there; Go cannot subscribe before there is a stream.
    early = 10 if jetstream else 0
    acks = await produce(sender, here, sent[:early])
    async with consuming(receiver, here) as worker:
        acks += await produce(sender, here, sent[early:])
        handled = await handle_all(here, [worker], COUNT)
    assert len(acks) == COUNT
    assert not any(a["duplicate"] for a in acks)
    if jetstream:
        assert {a["stream"] for a in acks} == {here.stream}
        assert sorted(a["sequence"] for a in acks) == list(range(1, COUNT + 1))
    check_handled(here, {sender: sent}, handled)


@modes
async def test_workers_of_one_group(place: Places, jetstream: bool) -> None:
    """Go, Python and Node work in one group, and send, at the same time: each event handled by exactly one worker."""
    here = place(KNOWLEDGE, "cg_knowledge", jetstream=jetstream)
    share = COUNT // len(KINDS)
    sent: dict[Kind, list[Batch]] = {
        kind: batches(KNOWLEDGE, share + (COUNT % len(KINDS) if kind == "go" else 0), start=n * 10_000)
        for n, kind in enumerate(KINDS)
    }
    if jetstream:
        await declare(here)
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(consuming(kind, here)) for kind in KINDS]
        await asyncio.gather(*[produce(kind, here, sent[kind]) for kind in KINDS])
        handled = await handle_all(here, workers, COUNT)
        by_kind = {w.kind: len(w.handled) for w in workers}
    check_handled(here, sent, handled)
    assert min(by_kind.values()) > 0, by_kind


@modes
@pytest.mark.parametrize("receiver", KINDS)
@pytest.mark.parametrize("sender", KINDS)
async def test_keys(place: Places, sender: Kind, receiver: Kind, jetstream: bool) -> None:
    """Keys of every shape arrive: with dashes and numbers at the end, in Chinese, as ids; and none stays none."""
    here = place(KNOWLEDGE, "cg_knowledge", jetstream=jetstream)
    keys = [str(BIG), "doc-7", "doc-7-0", "文档-7", "7", None]
    sent = [Batch(key, [knowledge(10 * n + i, BIG) for i in range(2)]) for n, key in enumerate(keys)]
    if jetstream:
        await declare(here)
    async with consuming(receiver, here) as worker:
        await produce(sender, here, sent)
        handled = await handle_all(here, [worker], 2 * len(keys))
    check_handled(here, {sender: sent}, handled)


async def test_the_platforms_message_ids(place: Places) -> None:
    """The platform's bug stays its own: its second event of a key is dropped; ours are stored, beside its too."""
    here = place(KNOWLEDGE, "cg_knowledge")
    batch = Batch("doc-7", [knowledge(n, BIG) for n in range(3)])
    assert [a["duplicate"] for a in await produce("go", here, [batch, batch])] == [False] * 3 + [True] * 3
    for kind in OURS:
        acks = await produce(kind, here, [batch, batch])
        assert [a["duplicate"] for a in acks] == [False] * 6
    async with consuming("node", here) as worker:
        await until(lambda: len(worker.handled) == 15, 15, "3 of Go's, 6 of Python's, 6 of Node's")
        await check_settled(here, 15)
        await worker.stop()
    assert {m.key for m in worker.handled} == {"doc-7"}
    assert len({m.headers["Nats-Msg-Id"] for m in worker.handled}) == 15


@ours
async def test_what_go_gives_back_comes_to_ours(place: Places, kind: Kind) -> None:
    """Go's Nak(): the event comes to our worker, as its second attempt, whole and with its key."""
    here = place(KNOWLEDGE, "cg_knowledge")
    sent = batches(KNOWLEDGE, 1)
    await produce("go", here, sent)
    async with consuming("go", here, nak=1, count=1) as go:
        await go.ended()
    assert [(m.attempt, m.settled) for m in go.handled] == [(1, "nak")]
    async with consuming(kind, here) as worker:
        await until(lambda: len(worker.handled) == 1, 10, "redelivered")
        await worker.stop()
    (m,) = worker.handled
    assert (m.attempt, m.key, m.event) == (2, sent[0].key, sent[0].bodies[0])


@ours
async def test_what_ours_gives_back_comes_to_go(place: Places, kind: Kind) -> None:
    """Our nak (Node) and a handler that raises (Python): the event comes to Go's worker, as a later attempt."""
    here = place(KNOWLEDGE, "cg_knowledge")
    sent = batches(KNOWLEDGE, 1)
    await produce(kind, here, sent)
    async with consuming(kind, here, nak=1, count=1) as worker:
        await worker.ended()
    assert [(m.attempt, m.settled) for m in worker.handled] == [(1, "nak")]
    async with consuming("go", here, count=1) as go:
        await go.ended()
    (m,) = go.handled
    assert m.attempt >= 2
    assert m.event == sent[0].bodies[0]


@ours
async def test_leaving_hands_over_to_go(place: Places, kind: Kind) -> None:
    """Our worker leaves with events buffered: Go's gets all of them at once, and not after the ack wait of 30 s."""
    here = place(RESOURCE, "cg_search_resource")
    sent = batches(RESOURCE, 200)
    await produce("go", here, sent)
    async with consuming(kind, here, count=1) as worker:
        await worker.ended()
    assert len(worker.handled) == 1
    started = time.monotonic()
    async with consuming("go", here) as go:
        await until(lambda: len(go.handled) >= 199, 25, "the other 199")
        assert time.monotonic() - started < 10
        await go.stop()
    ids = [identity(m.event) for m in (*worker.handled, *go.handled)]
    assert sorted(ids) == sorted(identity(e) for b in sent for e in b.bodies)


@ours
async def test_go_leaving_deletes_only_its_own_durable(place: Places, kind: Kind) -> None:
    """A Go worker that bound to our durable leaves: ours goes on."""
    here = place(APP, "cg_search_app")
    await produce(kind, here, batches(APP, 1))
    async with consuming(kind, here) as worker:
        async with consuming("go", here, unsubscribe=True) as go:
            await until(lambda: len(go.handled) + len(worker.handled) == 1, 10, "the first event handled")
            await go.stop()
        await produce("go", here, batches(APP, 1, start=1))
        await until(lambda: len(go.handled) + len(worker.handled) == 2, 10, "both events handled")
        await worker.stop()


async def test_a_durable_deleted_by_go_is_an_error(place: Places) -> None:
    """A Go worker that made the durable leaves, and deletes it (the platform's bug): ours says so, and never stalls."""
    here = place(APP, "cg_search_app")
    await produce("go", here, batches(APP, 1))
    async with (
        consuming("go", here, unsubscribe=True) as go,
        consuming("python", here) as python,
        consuming("node", here) as node,
    ):
        await go.stop()
        with pytest.raises(eb.NotFoundError, match="cg_search_app"):
            await python.ended()
        with pytest.raises(AssertionError, match="NotFoundError"):
            await node.ended()


async def test_go_reports_what_it_cannot_do(place: Places) -> None:
    """The check of the checker: Go's program fails loudly, here without a stream to subscribe to."""
    here = place(APP, "cg_search_app")
    async with process("go", here.command("go", "consume", jetstream=True)) as go:
        with pytest.raises(AssertionError, match="no stream matches subject"):
            await go.ended()

"""Row 22: a durable made by another client with other settings; a durable or a stream deleted while consuming.

What can be bound is bound and works. What cannot, and what is gone, is an error that names it: never a stall.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from nats.js.api import AckPolicy

from ..children import Child
from ..evidence import Evidence
from ..rig import GROUP, Rig
from ..run import Row
from ..witness import Witness

SOON = 12.0
"""Seconds until it must be said that a durable is gone: two heartbeats missed, and a look."""
MESSAGES = 200


async def _bound(rig: Rig) -> Evidence:
    """Every setting differs from ours, and none was asked for: it is used as it is."""
    server = await rig.server()
    await rig.prepare(server.url, durable=False)
    other: dict[str, Any] = {"ack_wait": 3, "max_ack_pending": 7, "max_deliver": 9, "max_waiting": 4}
    async with await Witness.of(server.url) as w:
        await w.make_durable(rig.stream, GROUP, rig.topic, description="another client's", **other)
        producer = rig.producer(server.url, count=MESSAGES)
        rig.worker(server.url, work=[0, 0.01], consumer={"concurrency": 4, "prefetch": 100})
        await rig.settled(producer, "finish")
        await rig.settle()
        config = (await w.durable(rig.stream, GROUP)).config
    for name, value in other.items():
        now = getattr(config, name)
        rig.require(now == value, "row", f"the durable's {name} was {value} and is {now} now")
    return await rig.evidence(server.url)


def _told(rig: Rig, worker: Child, code: str, words: str) -> None:
    errors = worker.ledger.errors
    rig.require(len(errors) == 1, "T", f"{len(errors)} errors were told, expected one")
    for e in errors:
        rig.require(e.code == code, "T", f"{e.code} was told, expected {code}: {e.text}")
        rig.require(words in e.text, "T", f"{words!r} is not in {e.text!r}")
        named = e.topic, e.stream, e.group
        want = rig.topic, rig.stream, GROUP
        rig.require(named == want, "T", f"topic, stream and group are named {named}, expected {want}")


def _differs(field: str, asked: dict[str, Any], settings: dict[str, Any]) -> Callable[[Rig], Awaitable[Evidence]]:
    """The durable cannot be used as it is: an error that names the field, and the durable is left alone."""

    async def case(rig: Rig) -> Evidence:
        server = await rig.server()
        await rig.prepare(server.url, durable=False)
        async with await Witness.of(server.url) as w:
            before = (await w.make_durable(rig.stream, GROUP, rig.topic, **settings)).config
            worker = rig.worker(server.url, consumer=asked)
            worker.expected = 3
            await worker.ended(10)
            rig.require((await w.durable(rig.stream, GROUP)).config == before, "row", "the durable was changed")
        _told(rig, worker, "conflict", field)
        return await rig.evidence(server.url)

    return case


def _gone(what: str) -> Callable[[Rig], Awaitable[Evidence]]:
    """Deleted while messages are handled: told soon."""

    async def case(rig: Rig) -> Evidence:
        server = await rig.server()
        await rig.prepare(server.url)
        producer, worker = rig.producer(server.url, rate=50, count=100, within=3.0), rig.worker(server.url)
        worker.expected = 3
        await rig.flowing(producer, worker)
        # Later also while nothing is on its way.
        await rig.last(rig.random.uniform(0, 4))
        async with await Witness.of(server.url) as w, rig.fault(f"{what} deleted"):
            gone = time.monotonic()
            await (w.js.delete_consumer(rig.stream, GROUP) if what == "durable" else w.js.delete_stream(rig.stream))
        await rig.comes(lambda: bool(worker.ledger.errors), SOON)
        await worker.ended(5)
        await rig.settled(producer, "finish")
        _told(rig, worker, "not_found", "deleted")
        for e in worker.ledger.errors:
            rig.facts["told after"] = f"{e.t - gone:.2f} s"
        await rig.end()
        return await rig.evidence()

    return case


CASES: dict[str, Callable[[Rig], Awaitable[Evidence]]] = {
    "other settings": _bound,
    "other filter": _differs("filter_subject", {}, {"filter_subject": "faults.others"}),
    "no acks": _differs("ack_policy", {}, {"ack_policy": AckPolicy.NONE}),
    "other max ack pending": _differs("max_ack_pending", {"order": "stream"}, {"max_ack_pending": 50}),
    "other ack wait": _differs("ack_wait", {"ack_wait": "7s"}, {"ack_wait": 3}),
    "durable deleted": _gone("durable"),
    "stream deleted": _gone("stream"),
}


async def scenario(rig: Rig) -> Evidence:
    """One of the cases."""
    return await CASES[rig.case](rig)


ROW = Row(
    22, "a durable with other settings; durable or stream deleted while consuming", "X", scenario, cases=tuple(CASES)
)

"""Row 19: permission denied on publish, on subscribe: told within 1 s, naming the topic; other traffic goes on.

On one bus: a topic that was never allowed, and then the topic in use, whose right the server takes away while messages
flow and gives back. The connection lives all the time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable

from ..audit import audit
from ..checks import refused, told, unbroken
from ..children import Child
from ..evidence import Evidence, Rules
from ..rig import GROUP, Rig
from ..run import Row
from ..servers import Server

SOON = 1.0
SECRET = "faults.secret"
OTHER = "faults.other"


def _config(*, publish: list[str], subscribe: list[str]) -> str:
    """The application may not use these topics; another client may use all."""
    denied = {"publish": {"deny": publish}, "subscribe": {"deny": subscribe}}
    app = {"user": "app", "password": "right", "permissions": denied}
    return f"authorization {{ users = {json.dumps([app, {'user': 'admin', 'password': 'right'}])} }}\n"


APP = {"user": "app", "password": "right"}


async def _server(rig: Rig, config: str) -> Server:
    server = await rig.server(config=config)
    rig.access = {"user": "admin", "password": "right"}
    async with await rig.witness(server.url) as w:
        await w.make_stream(rig.stream, "faults.*")
        await w.make_durable(rig.stream, GROUP, rig.topic, ack_wait=2)
    return server


async def _publish(rig: Rig) -> Evidence:
    """Of the topic: sends are rejected at once, and stored again when the right is back."""
    server = await _server(rig, _config(publish=[SECRET], subscribe=[]))
    producer = rig.producer(server.url, connect=APP, rate=200)
    worker = rig.worker(server.url, connect=APP)
    rig.worker(server.url, who="w2", connect=APP, topic=OTHER, group="others")
    await rig.flowing(producer, worker)
    count = 0

    async def attempt(topic: str) -> str:
        nonlocal count
        count += 1
        tried, id_ = producer.ledger.marks.count("tried"), f"odd-{count}"
        producer.tell(f"try {json.dumps({'id': id_, 'topic': topic, 'size': 200, 'headers': {}})}")
        await rig.until(lambda: producer.ledger.marks.count("tried") > tried, 20, f"the outcome of {id_}")
        return id_

    rig.violations += refused(
        producer.ledger, await attempt(SECRET), "permission", SOON, topic=SECRET, words=f'publish to "{SECRET}"'
    )
    for turn in range(5 if rig.long else 1):
        if turn:
            await rig.steady()
        async with rig.fault("publishing denied"):
            since = time.monotonic()
            server.reload(_config(publish=[SECRET, rig.topic], subscribe=[]))
            await rig.comes(lambda t=since: _rejected(producer, t), 10)
            await rig.comes(lambda t=since: not list(told(producer.ledger, "permission_denied", t, 10)), 10)
            first = next((x.t for x in producer.ledger.ended if x.t > since and x.how == "rejected"), None)
            rig.require(first is not None, "T", "no send was rejected")
            took = (first or since) - since
            rig.require(took < SOON, "T", f"the first send was rejected after {took:.2f} s, expected {SOON:.0f} s")
            rig.violations += told(producer.ledger, "permission_denied", since, SOON, cause=rig.topic)
            # Other topics of the same bus.
            id_ = await attempt(OTHER)
            other = next(x for x in producer.ledger.ended if x.id == id_)
            rig.require(other.how == "acked", "T", f"a message to {OTHER} ended {other.how} meanwhile: {other.error}")
            await rig.last(1)
            server.reload(_config(publish=[SECRET], subscribe=[]))
        await rig.resumed()
    await rig.settle()
    e = await rig.evidence(server.url)
    late = [x for x in producer.ledger.ended if x.error and x.error.code == "permission"]
    rig.require(len(late) > 50, "row", f"only {len(late)} sends were denied")
    slow = _slowest(producer)
    rig.facts["slowest denial"] = f"{slow:.2f} s"
    rig.require(slow < SOON, "T", f"a denied send was told so after {slow:.2f} s, expected {SOON:.0f} s")
    wrong = {x.error.topic for x in late if x.error} - {SECRET, rig.topic}
    rig.require(not wrong, "T", f"denied sends name the topics {wrong}")
    rig.violations += audit(e, "T", Rules(codes=frozenset({"permission"}), names=("topic",)))
    for child in (producer, worker):
        rig.violations += unbroken(child.ledger)
    return e


def _rejected(producer: Child, since: float) -> bool:
    return any(x.how == "rejected" and x.t > since for x in producer.ledger.ended)


def _slowest(producer: Child) -> float:
    sent = {s.id: s.t for s in producer.ledger.sent}
    return max((x.t - sent[x.id] for x in producer.ledger.ended if x.how == "rejected"), default=0.0)


async def _subscribe(rig: Rig) -> Evidence:
    """Of core consumers: opening one fails, the others go on; one whose right is taken away ends with the error."""
    server = await _server(rig, _config(publish=[], subscribe=[SECRET]))
    producer = rig.producer(server.url, connect=APP, rate=200)
    core = {**APP, "jetstream": False}
    # Of one group, so that each message is handled by one of them, and by the second once the first is gone.
    first = rig.worker(server.url, connect=core)
    stored = rig.worker(server.url, who="w2", connect=APP, group="stored")
    await rig.flowing(producer, first)
    await rig.flowing(producer, stored)
    for topic, opens in ((SECRET, False), (OTHER, True)):
        since = time.monotonic()
        first.tell(f"open {json.dumps({'topic': topic, 'group': GROUP})}")
        await rig.comes(lambda n=opens: bool(first.ledger.marks.count("opened") if n else first.ledger.errors), 10)
        if opens:
            rig.require("opened" in first.ledger.marks, "T", f"a consumer of {topic} could not be opened")
            continue
        _denied(rig, first, since, SECRET)
    before = len(first.ledger.errors)
    handled = len(stored.ledger.handlings)
    since = time.monotonic()
    first.expected = 3
    async with rig.fault("subscribing denied"):
        server.reload(_config(publish=[], subscribe=[SECRET, rig.topic]))
        await rig.comes(lambda: len(first.ledger.errors) > before, 10)
        _denied(rig, first, since, rig.topic)
        await first.ended(10)
        await rig.comes(lambda: len(stored.ledger.handlings) > handled + 100, 10)
    await rig.resumed()
    rig.violations += unbroken(first.ledger)
    await rig.settle()
    e = await rig.evidence(server.url)
    rig.violations += audit(e, "T", Rules(codes=frozenset(), names=("topic",)))
    for child in (producer, stored):
        rig.violations += unbroken(child.ledger)
    return e


def _denied(rig: Rig, worker: Child, since: float, topic: str) -> None:
    errors = [x for x in worker.ledger.errors if x.t > since]
    rig.require(len(errors) == 1, "T", f"{len(errors)} errors were told of {topic}, expected one")
    for x in errors[:1]:
        rig.require(x.code == "permission", "T", f"{x.code} was told, expected permission: {x.text}")
        rig.require(x.topic == topic, "T", f"permission names the topic {x.topic!r}, expected {topic!r}: {x.text}")
        rig.require(x.t - since < SOON, "T", f"{topic} was told to be denied after {x.t - since:.2f} s")
        rig.facts["slowest denial"] = f"{x.t - since:.2f} s"


CASES: dict[str, Callable[[Rig], Awaitable[Evidence]]] = {"publish": _publish, "subscribe": _subscribe}


async def scenario(rig: Rig) -> Evidence:
    """One of the cases."""
    return await CASES[rig.case](rig)


ROW = Row(19, "permission denied on publish, on subscribe", "LDHRX", scenario, cases=tuple(CASES))

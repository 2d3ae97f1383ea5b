"""Row 26: deploys over a backlog: workers with slow handlers end by SIGTERM, or leave their loop, one after the other.

Each has the whole backlog in its buffer when it ends, so the server counts a delivery of every message at each of them;
the Go worker gives back all that it gets. No handler fails, so no message may become a dead letter.
"""

from __future__ import annotations

import signal
from typing import Any

from ..attempts import failures_shown, nothing_left
from ..checks import buried
from ..children import Child
from ..evidence import Evidence
from ..golang import GoWorker
from ..rig import GROUP, Rig
from ..run import Row

DEPLOYS = 10
ACK_WAIT = 2.0
SLOW = [0.3, 0.8]
LEAVES = 2
"""How many messages a worker takes before it leaves its loop."""
CASES = ("", "default prefetch", "left by break", "beside Go")


async def _begun(rig: Rig, worker: Child) -> bool:
    """Waits until a worker has begun a few messages; says whether it has."""
    few = rig.random.randrange(1, 4)
    await rig.comes(lambda: len(worker.ledger.handlings) >= few or not worker.running, 15)
    begun = len(worker.ledger.handlings) >= few
    rig.require(begun, "row", f"{worker.who} began fewer than {few} messages: {worker.state}")
    return begun


async def _deploy(rig: Rig, url: str, who: str, consumer: dict[str, Any]) -> bool:
    """A worker that lives until it has begun a few messages; says whether it came so far."""
    begun = True
    if rig.case == "left by break":
        worker = rig.worker(url, who=who, work=SLOW, leave=LEAVES, consumer=consumer)
    else:
        worker = rig.worker(url, who=who, work=SLOW, consumer=consumer)
        begun = await _begun(rig, worker)
    async with rig.fault(f"{who} ends"):
        if rig.case != "left by break":
            worker.signal(signal.SIGTERM)
        await worker.ended(20)
    return begun


async def _gone(rig: Rig, go: GoWorker) -> None:
    """The Go worker has given back messages all the time, and ends."""
    naks = sum(h.how == "nak" for h in go.ledger.handlings)
    rig.require(naks > DEPLOYS, "rig", f"the Go worker gave back only {naks} messages: {go.state}")
    rig.facts["given back by Go"] = str(naks)
    go.signal(signal.SIGTERM)
    await go.ended(15)


async def scenario(rig: Rig) -> Evidence:
    """Ten workers, one after the other; an eleventh handles what is left."""
    server = await rig.server()
    await rig.prepare(server.url, ack_wait=ACK_WAIT)
    messages = 240 if rig.long else 80
    producer = rig.producer(server.url, rate=0, count=messages)
    await rig.settled(producer, "finish")
    go: GoWorker | None = None
    if rig.case == "beside Go":
        go = rig.go_worker(server.url, await rig.go_program(), work=0.02, nak=1_000_000)
    consumer: dict[str, Any] = {"concurrency": 2}
    if rig.case != "default prefetch":
        consumer["prefetch"] = messages
    for n in range(1, DEPLOYS + 1):
        if not await _deploy(rig, server.url, f"w{n}", consumer):
            break
    if go:
        await _gone(rig, go)
    last = rig.worker(server.url, who="last", work=[0.0, 0.05], consumer=consumer)
    async with await rig.witness(server.url) as w:
        # A dead letter is the end of it: what is one already will never be handled.
        lost = await w.letters(rig.stream)
        await rig.settle(expect=(lambda: len(last.ledger.handlings) > 0) if lost else None, within=5 if lost else 30)
    handled = len(last.ledger.handlings)
    rig.facts["left to the last worker"] = str(handled)
    async with await rig.witness(server.url) as w:
        rig.violations += nothing_left(await w.left(rig.stream, GROUP))
    e = await rig.evidence(server.url)
    rig.require(bool(handled or e.letters), "rig", "the deploys left nothing to the last worker")
    rig.violations[:0] = buried(e, {})
    rig.violations += failures_shown(e, [s.id for s in producer.ledger.sent], but=["go"])
    cut = [h for x in e.ledgers for h in x.handlings if h.how not in ("ok", "nak")]
    rig.require(not cut, "row", f"{len(cut)} handlers that ran at a deploy did not finish: {cut[:3]}")
    return e


ROW = Row(26, "ten deploys over a backlog, with slow handlers and a short ack wait", "LDHX", scenario, cases=CASES)

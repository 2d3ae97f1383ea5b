"""Row 29: a backlog of bodies of 1 MiB, at full speed and over a link of 2 MiB/s, without a `prefetch`.

A server hangs up on a client for which it holds more than 64 MiB, or which takes nothing for 10 s; and what waits in
a socket for longer than the ack wait is delivered again.
"""

from __future__ import annotations

import time

from ..attempts import handled_well, nothing_left
from ..checks import tried, unbroken
from ..children import Child
from ..evidence import Evidence
from ..proxy import Rule
from ..rig import GROUP, Rig
from ..run import Row

SIZE = 1 << 20
ACK_WAIT = 5.0
RATE = 2 << 20
"""Bytes a second."""
CASES = {"full speed": (300, 600, 1), "2 MiB/s": (20, 60, 1), "2 MiB/s, 32 at once": (20, 60, 32)}
"""How many messages, in the short form and in the long one, and how many handlers may run at once."""
STILL = 15.0
"""Seconds without a message after which none will come."""


def _over(worker: Child, count: int) -> bool:
    """Whether all are handled, or none will be any more."""
    handlings = worker.ledger.handlings
    still = time.monotonic() - (handlings[-1].start if handlings else worker.ledger.began) > STILL
    return len({h.id for h in handlings if h.how == "ok"}) >= count or still or not worker.running


async def scenario(rig: Rig) -> Evidence:
    """The backlog is there first; one worker handles it."""
    server = await rig.server(config="max_payload: 2MB")
    await rig.prepare(server.url, ack_wait=ACK_WAIT)
    short, long, at_once = CASES[rig.case]
    count = long if rig.long else short
    ids = [f"fill-{n}" for n in range(1, count + 1)]
    async with await rig.witness(server.url) as w:
        await w.fill(rig.topic, count, SIZE)
        url = server.url
        if rig.case != "full speed":
            proxy = rig.proxy(server)
            proxy.set(down=Rule(rate=RATE))
            url = proxy.url
        worker = rig.worker(url, consumer={"concurrency": at_once})
        await rig.until(lambda: len(worker.ledger.marks) > 0, 20, "the worker")
        await rig.comes(lambda: _over(worker, count), 60 + 2 * count * SIZE / RATE)
        handlings = worker.ledger.handlings
        if handlings:
            took = handlings[-1].start - handlings[0].start
            rig.facts["from the first to the last"] = f"{took:.1f} s"
        rig.violations += nothing_left(await w.left(rig.stream, GROUP))
        delivered = (await w.durable(rig.stream, GROUP)).delivered
        deliveries = delivered.consumer_seq if delivered else 0
        rig.require(deliveries == count, "row", f"the server counts {deliveries} deliveries of {count} messages")
        letters = await w.letters(rig.stream)
        rig.require(not letters, "row", f"{len(letters)} messages became dead letters: {sorted(letters)[:3]}")
    await rig.measure("end")
    await rig.end()
    # What is stored is not read again: the witness would need a link of its own for it.
    e = await rig.evidence()
    rig.violations += unbroken(worker.ledger)
    rig.violations += handled_well(e, ids)
    rig.violations += tried(e, ids, 1)
    return e


ROW = Row(29, "a backlog of bodies of 1 MiB, at full speed and at 2 MiB/s", "X", scenario, cases=tuple(CASES))

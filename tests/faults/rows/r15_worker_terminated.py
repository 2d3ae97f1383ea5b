"""Row 15: SIGTERM mid-batch: running handlers finish, and what is buffered goes to another worker within a second.

The ack wait is 30 s, so what comes sooner was given back.
"""

from __future__ import annotations

import signal
import time

from ..checks import handlings
from ..evidence import Evidence
from ..rig import GROUP, Rig
from ..run import Row
from ..witness import Witness

BATCH = 60


async def scenario(rig: Rig) -> Evidence:
    """The first worker has the whole batch; the second one waits with as many places."""
    server = await rig.server()
    await rig.prepare(server.url, ack_wait=30)
    producer = rig.producer(server.url, rate=0, count=BATCH)
    await rig.settled(producer, "finish")
    first = rig.worker(server.url, who="w1", work=[0.6, 1.0], consumer={"concurrency": 3, "prefetch": BATCH})
    async with await Witness.of(server.url) as w:
        await rig.until(lambda: len(first.ledger.handlings) >= 3, 20, "the first handlings")
        held = (await w.durable(rig.stream, GROUP)).num_ack_pending
        second = rig.worker(server.url, who="w2", consumer={"concurrency": BATCH, "prefetch": BATCH})
        until = time.monotonic() + 20
        while not (await w.durable(rig.stream, GROUP)).num_waiting and time.monotonic() < until:
            await rig.last(0.02)
        rig.require(not second.ledger.handlings, "rig", f"the first worker did not have all {BATCH} messages: {held}")
        await rig.last(rig.random.uniform(0, 0.5))
        async with rig.fault("SIGTERM"):
            first.signal(signal.SIGTERM)
        told = rig.faults[-1].start
        await rig.until(lambda: not first.running, 20, "the first worker's end")
    await rig.settle()
    e = await rig.evidence(server.url)
    cut = [h for h in first.ledger.handlings if h.how != "ok"]
    rig.require(not cut, "row", f"{len(cut)} handlers that ran at SIGTERM did not finish: {cut[:3]}")
    # A worker that goes on would start them for many seconds.
    late = [h for h in first.ledger.handlings if h.start > told + 1]
    rig.require(not late, "row", f"{len(late)} handlers were started after SIGTERM, the last {late[-1:]}")
    given = second.ledger.handlings
    took = max((h.start - told for h in given), default=0.0)
    rig.facts["given back"] = f"{len(given)} messages, the last one handled after {took:.2f} s"
    rig.require(len(given) > BATCH // 2, "rig", f"only {len(given)} messages were buffered at SIGTERM")
    rig.require(took < 1, "row", f"what was buffered was handled {took:.2f} s after SIGTERM, expected 1 s at most")
    twice = [id_ for id_, hs in handlings(e).items() if sum(h.how == "ok" for h in hs) > 1]
    rig.require(not twice, "row", f"{len(twice)} messages were handled twice: {twice[:5]}")
    return e


ROW = Row(15, "SIGTERM mid-batch", "LDHX", scenario)

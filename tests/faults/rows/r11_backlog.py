"""Row 11: a slow handler, a backlog of 100 000: what is in flight stays within the prefetch, and memory is flat."""

from __future__ import annotations

import time
from itertools import pairwise

from ..evidence import Evidence, Rules
from ..rig import GROUP, Rig
from ..run import Row
from ..witness import Witness

BACKLOG = 100_000
PREFETCH = 64


async def scenario(rig: Rig) -> Evidence:
    """The server and the worker are both asked, all the time, how much is in flight."""
    server = await rig.server()
    await rig.prepare(server.url, ack_wait=30)
    async with await Witness.of(server.url) as w:
        await w.fill(rig.topic, BACKLOG)
        worker = rig.worker(server.url, work=[0.02, 0.02], consumer={"concurrency": 4, "prefetch": PREFETCH})
        await rig.until(lambda: len(worker.ledger.handlings) > 200, 20, "the first handlings")
        await rig.measure("baseline")
        seen, until = list[int](), time.monotonic() + (60 if rig.long else 6)
        while time.monotonic() < until:
            seen.append((await w.durable(rig.stream, GROUP)).num_ack_pending or 0)
            await rig.last(0.05)
    # For a moment the server counts as pending what it has the acks of already; not twice in a row.
    most = max(min(pair) for pair in pairwise(seen))
    told = max(m.unsettled_messages for m in worker.ledger.metrics)
    rig.facts["most in flight"] = f"{most} by the server, {told} by the worker, prefetch {PREFETCH}"
    rig.require(most <= PREFETCH, "row", f"{most} messages were in flight by the server's count, prefetch {PREFETCH}")
    rig.require(told <= PREFETCH, "row", f"{told} messages were in flight by the worker's count, prefetch {PREFETCH}")
    await rig.measure("end")
    await rig.end()
    return await rig.evidence()


ROW = Row(11, "a slow handler, a backlog of 100 000", "MX", scenario, rules=Rules(growth=8 << 20))

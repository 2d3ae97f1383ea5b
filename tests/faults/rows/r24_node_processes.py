"""Row 24, Node: a loop that is blocked, exits while at work, threads terminated; what is closed lets it end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..evidence import Evidence
from ..rig import Rig
from ..run import Row
from .r23_python_processes import blocked, leave

WAYS = {"exit": 7, "loop": 7, "close": 0}


async def exits(rig: Rig) -> Evidence:
    """Workers that end in the middle of their work, by `process.exit` or by closing nothing but the bus."""
    return await leave(rig, WAYS)


async def threads(rig: Rig) -> Evidence:
    """Two threads at a time with a bus each: one is terminated at work, one closes its bus and ends by that."""
    server = await rig.server()
    await rig.prepare(server.url, ack_wait=1)
    rig.producer(server.url, rate=500)
    settings = {"concurrency": 4, "prefetch": 50, "max_deliver": 1000}
    worker = rig.program("threads", server.url, who="w1", after=20, consumer=settings)
    await rig.settled(worker, "threads 3", within=60)
    await rig.measure("baseline")
    rounds = 100 if rig.long else 12
    await rig.settled(worker, f"threads {rounds}", within=240)
    rig.require(not worker.ledger.errors, "row", f"threads ended otherwise: {worker.ledger.errors[:3]}")
    rig.facts["threads"] = f"{2 * worker.ledger.marks.count('round')}"
    await rig.settle()
    return await rig.evidence(server.url)


CASES: dict[str, Callable[[Rig], Awaitable[Evidence]]] = {"loop blocked": blocked, "exits": exits, "threads": threads}


async def scenario(rig: Rig) -> Evidence:
    """One of the cases."""
    return await CASES[rig.case](rig)


ROW = Row(
    24,
    "Node: loop blocked, process.exit, threads terminated, two workers",
    "XLM",
    scenario,
    cases=tuple(CASES),
    languages=("node",),
)

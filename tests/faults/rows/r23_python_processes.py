"""Row 23, Python: a loop that is blocked, forks, loops closed with sends pending, cancelled waits, exits while at work.

What a blocked loop has buffered or is handling is not delivered again, though the block is longer than the ack wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..children import Child
from ..evidence import Evidence, Rules
from ..rig import Rig
from ..run import Row
from ..servers import Server

FORKS = 12
WAYS = {"return": 0, "exit": 7, "daemon": 0}
"""How a worker leaves, and the exit code that is right for it."""


async def blocked(rig: Rig) -> Evidence:
    """The worker's loop, and then the producer's."""
    server = await rig.server()
    await rig.prepare(server.url, ack_wait=1)
    producer, worker = rig.producer(server.url), rig.worker(server.url, work=[0, 0.004], consumer={"concurrency": 8})
    await rig.flowing(producer, worker)
    await rig.measure("baseline")
    for child in (worker, producer):
        async with rig.fault(f"{child.who}'s loop blocked"):
            child.tell(f"block {20 if rig.long else 4}")
            await rig.last(20 if rig.long else 4)
        await rig.resumed()
    await rig.settle()
    e = await rig.evidence(server.url)
    again = [h for h in worker.ledger.handlings if h.attempt > 1]
    rig.require(not again, "row", f"{len(again)} messages were delivered again, though their worker lived: {again[:2]}")
    lost = [c.who for c in rig.children if c.ledger.metrics[-1].counts["reconnects"]]
    rig.require(not lost, "row", f"connections were lost: {lost}")
    return e


async def forks(rig: Rig) -> Evidence:
    """Handlers fork in the middle of traffic: see workers/child.py for what the child does."""
    server = await rig.server()
    await rig.prepare(server.url)
    count = FORKS * (5 if rig.long else 1)
    marks = {str(n * 50): "fork" for n in range(1, count + 1)}
    producer, worker = rig.producer(server.url, marks=marks), rig.worker(server.url, consumer={"concurrency": 8})
    await rig.flowing(producer, worker)
    await rig.measure("baseline")
    await rig.until(lambda: worker.ledger.marks.count("forked") >= count, 60, f"{count} forks")
    await rig.settle()
    e = await rig.evidence(server.url)
    rig.require(not worker.ledger.errors, "row", f"{len(worker.ledger.errors)} children: {worker.ledger.errors[:2]}")
    again = [h for h in worker.ledger.handlings if h.attempt > 1]
    rig.require(not again, "row", f"{len(again)} messages of the parent were delivered again: {again[:2]}")
    return e


async def loops(rig: Rig) -> Evidence:
    """One loop after the other, closed with half its sends pending."""
    server = await rig.server()
    await rig.prepare(server.url)
    worker = rig.worker(server.url, consumer={"concurrency": 8})
    looper = rig.program("loops", server.url, who="p1", acts="producer")
    await _twice(rig, looper, "loops 5", f"loops {100 if rig.long else 15}")
    await rig.settle()
    rig.require(worker.running is False, "rig", "the worker did not end")
    return await rig.evidence(server.url)


async def cancelled_sends(rig: Rig) -> Evidence:
    """10 000 awaits at a time are cancelled: sends, flushes, requests, fetches."""
    server = await rig.server()
    await rig.prepare(server.url, max_ack_pending=10_000)
    rig.worker(server.url, consumer={"concurrency": 64})
    sender = rig.program("loops", server.url, who="p1", acts="producer")
    await _twice(rig, sender, "cancel 10000", "cancel 10000", times=5 if rig.long else 1)
    # Requests that nobody waits for have their time, all the same.
    await rig.settle()
    return await rig.evidence(server.url)


async def cancelled_waits(rig: Rig) -> Evidence:
    """10 000 waits for messages are cancelled while messages come."""
    server = await rig.server()
    await rig.prepare(server.url)
    rig.producer(server.url, rate=1000)
    waiter = rig.program("loops", server.url, who="w1", acts="worker")
    await _twice(rig, waiter, "cancel 1000", f"cancel {10_000 if rig.long else 3000}")
    rig.worker(server.url, who="w2")
    await rig.settle()
    return await rig.evidence(server.url)


async def _twice(rig: Rig, child: Child, first: str, then: str, times: int = 1) -> None:
    """The baseline is after the first time: by then all that is kept for good is there."""
    await rig.settled(child, first, within=60)
    await rig.measure("baseline")
    for _ in range(times):
        await rig.settled(child, then, within=120)


async def exits(rig: Rig) -> Evidence:
    """Workers that end in the middle of their work, two at a time; one that stays has the rest."""
    return await leave(rig, WAYS)


async def leave(rig: Rig, ways: dict[str, int]) -> Evidence:
    """Of each way as many."""
    server = await rig.server()
    await rig.prepare(server.url, ack_wait=1)
    producer = rig.producer(server.url, rate=300)
    count = 100 if rig.long else 12
    order = [way for _ in range(count) for way in ways][:count]
    rig.random.shuffle(order)
    for n in range(0, count, 2):
        pair = [_leaver(rig, server, f"leaver{n + k}", order[n + k], ways) for k in range(2)]
        for child in pair:
            await rig.comes(lambda c=child: not c.running, 30)
            await child.ended(1)
    rig.facts["exits"] = f"{count}"
    left = [c for c in rig.children if c.who.startswith("leaver")]
    idle = [c.who for c in left if not c.ledger.handlings]
    rig.require(not idle, "rig", f"{len(idle)} handled nothing: {idle[:5]}")
    rig.worker(server.url, consumer={"concurrency": 64, "max_deliver": 1000})
    rig.require(producer.running, "rig", "the producer did not live")
    await rig.settle()
    return await rig.evidence(server.url)


def _leaver(rig: Rig, server: Server, who: str, way: str, ways: dict[str, int]) -> Child:
    child = rig.program("leaver", server.url, who=who, way=way, after=20)
    child.expected = ways[way]
    return child


CASES: dict[str, Callable[[Rig], Awaitable[Evidence]]] = {
    "loop blocked": blocked,
    "fork": forks,
    "loops closed": loops,
    "sends cancelled": cancelled_sends,
    "waits cancelled": cancelled_waits,
    "exits": exits,
}


async def scenario(rig: Rig) -> Evidence:
    """One of the cases."""
    return await CASES[rig.case](rig)


ROW = Row(
    23,
    "Python: loop blocked, fork, loops closed with sends pending, awaits cancelled, exits with live consumers",
    "XLM",
    scenario,
    cases=tuple(CASES),
    rules=Rules(fds=0),
    languages=("python",),
)

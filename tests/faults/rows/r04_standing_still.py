"""Row 4: servers that stand still, and say nothing: the leader; two of three; a leader cut off from the majority.

One producer, `p1`, is bound to the server concerned and has nowhere else to go; another, and the worker, may go where
they like. Where a majority cannot be reached nothing can be stored, so that every ack would be false.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from ..checks import acked_by_nobody, each_resumed
from ..cluster import Cluster
from ..evidence import Evidence, Fault, Rules
from ..rig import GROUP, Rig
from ..run import Row
from ..servers import Server
from ..witness import Witness

# Short enough for sends to end while the fault lasts: each must have its outcome by then, an honest one.
WITHIN = 4.0
RULES = Rules(
    codes=frozenset({"publish.unknown", "publish.rejected", "publish.rejected.not_sent"}), lost_on_the_way=True
)


async def _traffic(rig: Rig, cluster: Cluster, server: Server) -> None:
    """Starts `p1` on a server alone, `p2` and the worker on all."""
    common: dict[str, Any] = {"rate": 60, "within": WITHIN}
    pinned = rig.producer(server.url, **common, connect={"replicas": 3, "discovered_servers": False})
    free = rig.producer(cluster.url, who="p2", **common, connect={"replicas": 3})
    # What is given to a worker that cannot be reached counts as a delivery.
    consumer = {"order": "key", "concurrency": 8, "max_deliver": 50}
    worker = rig.worker(cluster.url, consumer=consumer, work=[0, 0.002], connect={"replicas": 3})
    for producer in (pinned, free):
        await rig.flowing(producer, worker)
    await cluster.current()


class _Case:
    """What all cases have in common; `apart` is while a majority could not be reached."""

    def __init__(self, rig: Rig, cluster: Cluster, w: Witness) -> None:
        self.rig, self.cluster, self.w = rig, cluster, w
        self.apart: list[Fault] = []

    @asynccontextmanager
    async def fault(self, name: str, heal: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
        """A fault; it is over once the cluster, let alone again, has elected its leaders."""
        start = time.monotonic()
        async with self.rig.fault(name):
            yield
            self.apart.append(Fault(name, start, time.monotonic()))
            await heal()
            await self.w.leaders(self.rig.stream, GROUP)
        await self.rig.resumed()

    async def ending(self, *, cut_off: tuple[str, ...], gone: Server | None = None) -> Evidence:
        """`cut_off` are the producers that reached no majority. What is stored is asked of all servers but one."""
        await self.rig.settle()
        if gone:
            gone.kill()
        e = await self.rig.evidence(",".join(s.url for s in self.cluster.servers if s is not gone))
        for fault in self.apart:
            self.rig.violations += acked_by_nobody(e, fault, cut_off)
        self.rig.violations += each_resumed(e)
        return e


async def _leader(rig: Rig, cluster: Cluster, w: Witness) -> Evidence:
    leader = cluster[(await w.leaders(rig.stream, GROUP))[0]]
    await _traffic(rig, cluster, leader)
    case = _Case(rig, cluster, w)
    await leader.stop()
    async with case.fault(f"SIGSTOP {leader.name}, the leader", _goes_on(leader)):
        await rig.last(20 if rig.long else 6)
    await cluster.current()
    return await case.ending(cut_off=())


async def _majority(rig: Rig, cluster: Cluster, w: Witness) -> Evidence:
    leader = cluster[(await w.leaders(rig.stream, GROUP))[0]]
    # The leader is left alone, or it is one of the two: by chance.
    alone = leader if rig.random.random() < 0.5 else cluster.others(leader)[0]
    await _traffic(rig, cluster, alone)
    case = _Case(rig, cluster, w)
    for _ in range(2 if rig.long else 1):
        stopped = cluster.others(alone)
        for server in stopped:
            await server.stop()
        async with case.fault(f"SIGSTOP {' and '.join(s.name for s in stopped)}", _goes_on(*stopped)):
            await rig.last(20 if rig.long else 6)
        await cluster.current()
    return await case.ending(cut_off=("p1", "p2"))


async def _partition(rig: Rig, cluster: Cluster, w: Witness) -> Evidence:
    last = cluster.servers[-1]
    await w.led_by(last.name, rig.stream, GROUP)
    await _traffic(rig, cluster, last)
    await w.led_by(last.name, rig.stream, GROUP)
    case = _Case(rig, cluster, w)
    cluster.isolate()
    async with case.fault(f"{last.name}, the leader, cut off", cluster.rejoin):
        await rig.last(20 if rig.long else 6)
    # A server may take minutes to catch up after this: what counts is what the others have.
    return await case.ending(cut_off=("p1",), gone=last)


def _goes_on(*servers: Server) -> Callable[[], Awaitable[None]]:
    async def heal() -> None:
        for server in servers:
            server.cont()

    return heal


CASES: dict[str, Callable[[Rig, Cluster, Witness], Awaitable[Evidence]]] = {
    "the leader": _leader,
    "two of three": _majority,
    "the leader cut off": _partition,
}


async def scenario(rig: Rig) -> Evidence:
    """One of the cases."""
    case = CASES[rig.case]
    cluster = await rig.cluster(cut=case is _partition)
    await rig.prepare(cluster.url, num_replicas=3)
    async with await Witness.of(cluster.url) as w:
        return await case(rig, cluster, w)


ROW = Row(4, "a leader or a majority stands still", "LDOHRTX", scenario, cases=tuple(CASES), rules=RULES)

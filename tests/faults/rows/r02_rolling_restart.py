"""Row 2: 3 nodes, R3, a rolling restart, twice: once by lame duck mode, once by SIGTERM.

As an operator does it: a server is told to go, comes back, and only when all that is replicated is current on it the
next one goes. The application sees nothing of it but a pause.
"""

from __future__ import annotations

from ..checks import all_acked, never_still, none_told, pauses
from ..evidence import Evidence, Rules
from ..rig import Rig
from ..run import Row

RULES = Rules(lost_on_the_way=True)


async def scenario(rig: Rig) -> Evidence:
    """Traffic goes on all the time; every server goes and comes back, one after the other, in an order by chance."""
    cluster = await rig.cluster()
    await rig.prepare(cluster.url, num_replicas=3)
    producer = rig.producer(cluster.url, rate=200, connect={"replicas": 3})
    worker = rig.worker(
        cluster.url, consumer={"order": "key", "concurrency": 8}, work=[0, 0.004], connect={"replicas": 3}
    )
    await rig.flowing(producer, worker)
    await cluster.current()
    for way in ("lame duck", "SIGTERM"):
        for server in rig.random.sample(cluster.servers, len(cluster.servers)):
            async with rig.fault(f"{server.name} restarted by {way}"):
                if way == "lame duck":
                    server.lame_duck()
                else:
                    server.terminate()
                await server.gone()
                await rig.last(rig.random.uniform(1, 5) if rig.long else 0)
                await server.start()
                await cluster.current()
            await rig.resumed()
            await rig.last(rig.random.uniform(1, 5) if rig.long else 0)
    await rig.settle()
    e = await rig.evidence(cluster.url)
    rig.violations += all_acked(e)
    rig.violations += none_told(e)
    rig.violations += never_still(e, 10)
    rig.facts |= {f"longest time nothing was {what}": f"{t:.1f} s" for what, t in pauses(e).items()}
    return e


ROW = Row(2, "3 nodes R3, rolling restart twice", "LDOHRX", scenario, rules=RULES)

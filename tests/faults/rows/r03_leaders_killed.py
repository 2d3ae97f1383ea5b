"""Row 3: 3 nodes, R3, SIGKILL the stream's leader, then the durable's."""

from __future__ import annotations

from ..checks import all_acked, each_resumed
from ..cluster import Cluster
from ..evidence import Evidence, Rules
from ..rig import GROUP, Rig
from ..run import Row
from ..witness import Witness

RULES = Rules(lost_on_the_way=True)


async def _kill(rig: Rig, cluster: Cluster, w: Witness, what: str) -> None:
    """Kills a leader, and starts it again once the others have elected new ones."""
    stream, durable = await w.led_apart(rig.stream, GROUP)
    leader = cluster[stream if what == "stream" else durable]
    async with rig.fault(f"SIGKILL {leader.name}, the {what}'s leader"):
        leader.kill()
        while leader.name in await w.leaders(rig.stream, GROUP):
            await rig.last(0.05)
    await rig.resumed()
    await rig.last(rig.random.uniform(1, 5) if rig.long else 0)
    await leader.start()
    await cluster.current()


async def scenario(rig: Rig) -> Evidence:
    """Each time the two are led by different servers, so that each kill is the one it says."""
    cluster = await rig.cluster()
    await rig.prepare(cluster.url, num_replicas=3)
    producer = rig.producer(cluster.url, rate=200, within=20.0, connect={"replicas": 3})
    worker = rig.worker(
        cluster.url, consumer={"order": "key", "concurrency": 8}, work=[0, 0.004], connect={"replicas": 3}
    )
    await rig.flowing(producer, worker)
    await cluster.current()
    async with await Witness.of(cluster.url) as w:
        for _ in range(3 if rig.long else 1):
            await _kill(rig, cluster, w, "stream")
            await _kill(rig, cluster, w, "durable")
    await rig.settle()
    e = await rig.evidence(cluster.url)
    rig.violations += all_acked(e)
    rig.violations += each_resumed(e)
    return e


ROW = Row(3, "3 nodes, SIGKILL the stream leader, then the consumer leader", "LDOHRX", scenario, rules=RULES)

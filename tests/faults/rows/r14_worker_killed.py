"""Row 14: SIGKILL a worker mid-batch, another one takes over."""

from __future__ import annotations

from ..checks import handlings
from ..evidence import Evidence
from ..rig import GROUP, Rig
from ..run import Row
from ..witness import Witness


async def scenario(rig: Rig) -> Evidence:
    """Two workers share a stream of messages; again and again one is killed with messages buffered and in its hands."""
    server = await rig.server()
    await rig.prepare(server.url)
    consumer = {"concurrency": 4, "prefetch": 40}
    producer = rig.producer(server.url, rate=150)
    victim = rig.worker(server.url, who="w1", work=[0.02, 0.05], consumer=consumer)
    rig.worker(server.url, who="w2", work=[0.02, 0.05], consumer=consumer)
    await rig.flowing(producer, victim)
    in_flight, kills = 0, 4 if rig.long else 1
    for kill in range(kills):
        start = len(victim.ledger.handlings)
        enough = start + rig.random.randrange(50, 100)
        await rig.until(lambda v=victim, n=enough: len(v.ledger.handlings) > n, 30, "handlings of the victim")
        async with rig.fault("SIGKILL a worker"):
            victim.kill()
        async with await Witness.of(server.url) as w:
            in_flight += (await w.durable(rig.stream, GROUP)).num_ack_pending or 0
        await rig.resumed()
        if kill < kills - 1:
            victim = rig.worker(server.url, who=f"w{kill + 3}", work=[0.02, 0.05], consumer=consumer)
    await rig.settle()
    e = await rig.evidence(server.url)
    again = [hs for hs in handlings(e).values() if max(h.attempt for h in hs) > 1]
    rig.facts["in flight at the kills"] = str(in_flight)
    rig.require(
        len(again) <= in_flight,
        "row",
        f"{len(again)} messages were redelivered, {in_flight} were in flight at the kills",
    )
    for hs in again:
        # An ack takes a moment; what was done long before is settled.
        done = [
            f for f in rig.faults if hs[0].how == "ok" and (hs[0].end or 0) < f.start - 1 and hs[-1].start > f.start
        ]
        rig.require(
            not done, "row", f"{hs[0].id} was handled {hs[0].end} and redelivered after the kill, {hs[-1].start}"
        )
    return e


ROW = Row(14, "SIGKILL a worker mid-batch, another takes over", "LDHRX", scenario)

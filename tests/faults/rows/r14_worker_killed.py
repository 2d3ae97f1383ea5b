"""Row 14: SIGKILL a worker mid-batch, another one takes over; also where the group is to keep the stream's order."""

from __future__ import annotations

from ..audit import audit
from ..checks import handlings
from ..children import Child
from ..evidence import Evidence, Rules
from ..rig import GROUP, Rig
from ..run import Row
from ..witness import Witness


async def scenario(rig: Rig) -> Evidence:
    """Two workers share a stream of messages; again and again one is killed with messages buffered and in its hands."""
    server = await rig.server()
    in_order = rig.case == "in stream order"
    await rig.prepare(server.url, max_ack_pending=1 if in_order else 1000)
    consumer = {"order": "stream"} if in_order else {"concurrency": 4, "prefetch": 40}
    work = [0.005, 0.01] if in_order else [0.02, 0.05]
    producer = rig.producer(server.url, rate=60 if in_order else 150)
    victim = rig.worker(server.url, who="w1", work=work, consumer=consumer)
    rig.worker(server.url, who="w2", work=work, consumer=consumer)
    await rig.flowing(producer, victim)
    in_flight, kills = 0, 4 if rig.long else 1
    for kill in range(kills):
        start = len(victim.ledger.handlings)
        enough = start + rig.random.randrange(30, 60)

        def in_the_midst(victim: Child = victim, enough: int = enough) -> bool:
            handlings = victim.ledger.handlings
            return len(handlings) > enough and handlings[-1].end is None

        await rig.until(in_the_midst, 30, "handlings of the victim")
        async with await Witness.of(server.url) as w:
            async with rig.fault("SIGKILL a worker"):
                victim.kill()
            in_flight += (await w.durable(rig.stream, GROUP)).num_ack_pending or 0
        await rig.resumed()
        if kill < kills - 1:
            victim = rig.worker(server.url, who=f"w{kill + 3}", work=work, consumer=consumer)
    await rig.settle()
    e = await rig.evidence(server.url)
    if in_order:
        rig.violations += audit(e, "O", Rules(in_order="group"))
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


ROW = Row(14, "SIGKILL a worker mid-batch, another takes over", "LDHRX", scenario, cases=("", "in stream order"))

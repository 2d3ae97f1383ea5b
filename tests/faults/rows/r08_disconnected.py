"""Row 8: 50 000 sends while there is no server, more than once.

The baseline is after the first time: what allocators keep of such a crowd is no leak, but no other may add to it.
"""

from __future__ import annotations

from ..evidence import Evidence, Rules
from ..rig import Rig
from ..run import Row

SENDS = 50_000
RATE = 10_000
"""A second: faster, the event loop would still be handing out the outcomes of others when one's time has come."""
WITHIN = 4.0


async def scenario(rig: Rig) -> Evidence:
    """The server dies, everything is sent at once; later it comes back, and so does the traffic."""
    server = await rig.server()
    await rig.prepare(server.url)
    producer = rig.producer(server.url, mode=rig.case, rate=300, count=100, within=WITHIN)
    await rig.settled(producer, "burst 1 0")
    start = producer.usage("baseline").rss
    for again in range(4 if rig.long else 2):
        async with rig.fault("no server"):
            server.kill()
            await rig.settled(producer, f"burst {SENDS} {RATE}", within=120)
            await rig.measure("end" if again else "baseline")
            await server.start()
        # Sends that end before the connection is back are not acked; R is about the first that is.
        for _ in range(20):
            await rig.settled(producer, "burst 20 0")
            if producer.ledger.ended[-1].how == "acked":
                break
    grown = producer.peak() - start
    rig.facts["most memory"] = f"+{grown / 2**20:.0f} MiB"
    # A caller that waits for 50 000 sends at once holds them; one that is refused holds nothing.
    bound = (SENDS * 6144 if rig.case == "send" else 32 << 20) + (32 << 20)
    rig.require(grown < bound, "M", f"it grew by {grown / 2**20:.0f} MiB, more than {bound / 2**20:.0f}")
    await rig.end()
    return await rig.evidence(server.url)


ROW = Row(
    8,
    "disconnected, 50 000 sends",
    "LHRMTX",
    scenario,
    cases=("send", "nowait"),
    crowd=True,
    rules=Rules(growth=24 << 20, codes=frozenset({"backpressure", "publish.unknown", "publish.rejected.not_sent"})),
)

"""Row 8: 50 000 sends while there is no server, more than once; and an outage in which sends go on and on.

The baseline is after the first time: what allocators keep of such a crowd is no leak, but no other may add to it.
"""

from __future__ import annotations

from ..children import Child
from ..evidence import Evidence, Rules
from ..rig import Rig
from ..run import Row
from ..servers import Server

SENDS = 50_000
RATE = 10_000
"""A second: faster, the event loop would still be handing out the outcomes of others when one's time has come."""
MIB = 1 << 20


async def _again_and_again(rig: Rig, server: Server, producer: Child) -> None:
    """The server dies, everything is sent; later it comes back, and so does the traffic."""
    for again in range(4 if rig.long else 2):
        async with rig.fault("no server"):
            server.kill()
            await rig.settled(producer, f"burst {SENDS} {RATE}", within=120)
            await rig.measure("end" if again else "baseline")
            await server.start()
        await _back(rig, producer)


async def _long_outage(rig: Rig, server: Server, producer: Child) -> None:
    """The server stays away, and nothing of sends that ended long ago may wait for it."""
    async with rig.fault("no server"):
        server.kill()
        await rig.settled(producer, f"burst {SENDS // 2} {RATE}")
        await rig.measure("baseline")
        start = producer.usage("baseline").rss
        for _ in range(10 if rig.long else 5):
            await rig.settled(producer, f"burst {SENDS // 2} {RATE}")
        await rig.measure("end")
        grown = (producer.usage("end").rss - start) / MIB
        rig.facts["grown in the outage"] = f"{grown:.0f} MiB"
        # V8 and its allocator keep pages for a while: its heap was seen to stay flat where this grew by 30 MiB.
        most = 12 if rig.language == "python" else 64
        rig.require(grown < most, "M", f"it grew by {grown:.0f} MiB at rest while {SENDS // 2} sends at a time failed")
        await server.start()
    await _back(rig, producer)


async def _back(rig: Rig, producer: Child) -> None:
    """Sends that end before the connection is back are not acked; R is about the first that is."""
    for _ in range(20):
        await rig.settled(producer, "burst 20 0")
        if producer.ledger.ended[-1].how == "acked":
            break


async def scenario(rig: Rig) -> Evidence:
    """One of the cases."""
    server = await rig.server()
    await rig.prepare(server.url)
    long_outage = rig.case == "nowait, long outage"
    producer = rig.producer(
        server.url,
        mode="send" if rig.case == "send" else "nowait",
        rate=300,
        count=100,
        within=1.0 if long_outage else 4.0,
        producer={"max_in_flight": SENDS // 2} if long_outage else {},
    )
    await rig.settled(producer, "burst 1 0")
    start = producer.usage("baseline").rss
    await (_long_outage if long_outage else _again_and_again)(rig, server, producer)
    grown = (producer.peak() - start) / MIB
    rig.facts["most memory"] = f"+{grown:.0f} MiB"
    # A caller that waits for 50 000 sends at once holds them; one that is refused holds at most a window of them.
    bound = {"send": SENDS * 6144 / MIB + 32, "nowait": 64}.get(rig.case, 128)
    rig.require(grown < bound, "M", f"it grew by {grown:.0f} MiB, more than {bound:.0f}")
    await rig.end()
    return await rig.evidence(server.url)


ROW = Row(
    8,
    "disconnected, 50 000 sends",
    "LHRMTX",
    scenario,
    cases=("send", "nowait", "nowait, long outage"),
    crowd=True,
    # Between the first crowd and the last: of the 200 MiB that a crowd takes allocators keep some.
    rules=Rules(growth=128 * MIB, codes=frozenset({"backpressure", "publish.unknown", "publish.rejected.not_sent"})),
)

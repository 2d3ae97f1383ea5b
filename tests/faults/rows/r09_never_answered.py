"""Row 9: 10 000 publishes that are never answered leave nothing behind.

The baseline is after the first time: what allocators keep of such a crowd is no leak, but no other may add to it.
"""

from __future__ import annotations

from ..evidence import Evidence, Rules
from ..proxy import Rule
from ..rig import Rig
from ..run import Row

SENDS = 10_000


async def scenario(rig: Rig) -> Evidence:
    """The server stores them all, and no ack ever comes through."""
    server = await rig.server()
    await rig.prepare(server.url)
    proxy = rig.proxy(server)
    # Without keys: of a key, only one message at a time is under way.
    bus = {"max_in_flight": SENDS, "ack_timeout": "2s"}
    producer = rig.producer(proxy.url, count=100, keys=0, within=5.0, producer=bus)
    await rig.settled(producer, "burst 1 0")
    answered = len(producer.ledger.ended)
    for again in range(10 if rig.long else 3):
        async with rig.fault("acks dropped"):
            proxy.set(down=Rule(drop=lambda frame: frame.is_pub_ack))
            await rig.settled(producer, f"burst {SENDS} 0", within=60)
            proxy.heal()
        await rig.measure("end" if again else "baseline")
    hows = {x.how for x in producer.ledger.ended[answered:]}
    rig.require(hows == {"unknown"}, "row", f"sends that were never answered ended {hows}")
    await rig.end()
    return await rig.evidence(server.url)


ROW = Row(9, "10 000 publishes that are never answered", "LHMTX", scenario, rules=Rules(growth=24 << 20), crowd=True)

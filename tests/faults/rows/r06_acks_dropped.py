"""Row 6: the proxy drops only the acks: messages are stored, and nobody says so."""

from __future__ import annotations

from ..checks import all_acked
from ..evidence import Evidence
from ..proxy import Rule
from ..rig import Rig
from ..run import Row


async def scenario(rig: Rig) -> Evidence:
    """What was stored is sent again with its id until an ack comes through, which says that it is a duplicate."""
    server = await rig.server()
    await rig.prepare(server.url)
    proxy = rig.proxy(server)
    producer = rig.producer(proxy.url, within=20.0)
    worker = rig.worker(server.url)
    await rig.flowing(producer, worker)
    for _ in range(5 if rig.long else 2):
        await rig.last(rig.random.uniform(0.3, 1.0))
        async with rig.fault("acks dropped"):
            proxy.set(down=Rule(drop=lambda frame: frame.is_pub_ack))
            await rig.last(rig.random.uniform(1.5, 3.0))
            proxy.heal()
        await rig.resumed()
    await rig.settle()
    again = any(x.duplicate for x in producer.ledger.ended)
    rig.require(again, "row", "no ack said that its message was stored before")
    e = await rig.evidence(server.url)
    rig.violations += all_acked(e)
    return e


ROW = Row(6, "a proxy drops only the acks", "LDHRX", scenario)

"""Row 10: a handler that takes twice the ack wait, for messages that waited in the buffer before."""

from __future__ import annotations

from ..checks import tried
from ..evidence import Evidence
from ..rig import GROUP, Rig
from ..run import Row
from ..witness import Witness

ACK_WAIT = 1.0
MESSAGES = 40


async def scenario(rig: Rig) -> Evidence:
    """All are delivered at once and kept: the last are handled only when their ack wait has passed twice."""
    server = await rig.server()
    await rig.prepare(server.url, ack_wait=ACK_WAIT)
    producer = rig.producer(server.url, rate=0, count=MESSAGES)
    await rig.settled(producer, "finish")
    consumer = {"concurrency": MESSAGES // (10 if rig.long else 2), "prefetch": MESSAGES}
    rig.worker(server.url, work=[2 * ACK_WAIT, 2 * ACK_WAIT + 0.2], consumer=consumer)
    await rig.settle()
    e = await rig.evidence(server.url)
    rig.violations += tried(e, [s.id for s in producer.ledger.sent], 1)
    async with await Witness.of(server.url) as w:
        delivered = (await w.durable(rig.stream, GROUP)).delivered
    count = delivered.consumer_seq if delivered else 0
    rig.require(count == MESSAGES, "row", f"the server counts {count} deliveries of {MESSAGES} messages")
    return e


ROW = Row(10, "a handler twice as long as the ack wait", "LDHX", scenario)

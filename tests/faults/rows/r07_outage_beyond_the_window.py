"""Row 7: an outage longer than the dedupe window: the outcome is unknown, and nothing is sent again silently.

The stream remembers ids for 2 s, and sends end after 1.5 s. The proxy passes everything on and writes down when each id
comes by: after its outcome was told, none may. Where the server stands still, D is not asked: bytes that were written
in time lie in its socket until it goes on, beyond the window, and no client can call them back.
"""

from __future__ import annotations

import time

from ..audit import audit
from ..evidence import Evidence
from ..frames import Frame
from ..proxy import Proxy, Rule, Way
from ..rig import Rig
from ..run import Row

WINDOW, WITHIN = 2.0, 1.5
OUTAGE = 5.0


def _watched(proxy: Proxy) -> dict[str, float]:
    """When each id was last sent, while it goes on."""
    seen: dict[str, float] = {}

    def watch(way: Way, frame: Frame) -> None:
        if way == "up" and (id_ := frame.message_id):
            seen[id_] = time.monotonic()

    proxy.watchers.append(watch)
    return seen


async def scenario(rig: Rig) -> Evidence:
    """An outage in which every message that is sent runs into its deadline."""
    server = await rig.server()
    await rig.prepare(server.url, duplicate_window=WINDOW)
    # It must read at once whatever the client writes, to know when.
    proxy = rig.proxy(server, buffer=64 << 20)
    seen = _watched(proxy)
    producer = rig.producer(proxy.url, within=WITHIN, producer={"ack_timeout": "500ms"})
    worker = rig.worker(server.url)
    await rig.flowing(producer, worker)
    for _ in range(3 if rig.long else 1):
        await rig.last(1)
        async with rig.fault(rig.case):
            if rig.case == "server stopped":
                await server.stop()
                await rig.last(OUTAGE)
                server.cont()
            else:
                proxy.set(down=Rule(drop=lambda frame: frame.is_pub_ack))
                await rig.last(OUTAGE)
                proxy.heal()
        await rig.resumed()
    await rig.settle()
    e = await rig.evidence(server.url)
    unknown = [x for x in producer.ledger.ended if x.how == "unknown"]
    rig.require(len(unknown) > 100, "row", f"only {len(unknown)} sends ended unknown in an outage of {OUTAGE} s")
    for x in unknown:
        later = seen.get(x.id, 0) - x.t
        # What was written just before its outcome may be seen just after it; another attempt would come after 0.5 s.
        rig.require(later < 0.4, "row", f"{x.id} was told unknown and sent again {later:.2f} s later")
    if rig.case == "acks dropped":
        rig.violations += audit(e, "D")
    return e


ROW = Row(
    7,
    "an outage longer than the dedupe window",
    "LHRTX",
    scenario,
    cases=("server stopped", "acks dropped"),
)

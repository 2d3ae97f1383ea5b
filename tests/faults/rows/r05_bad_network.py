"""Row 5: a TCP proxy: black hole without RST, half-close each way, RST mid-payload, 200 ms ± 100 ms, 1 KB/s.

Producer and worker both go through it. A half-closed connection never heals: the other way stays open and says nothing,
and the client must find out by its pings, here every second. From the blow on, new connections pass.

The ack wait is longer than any of the faults: where it is not, the server delivers into the hole again and again, and
these attempts count against `max_deliver`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..checks import all_acked
from ..evidence import Evidence
from ..proxy import STALL, Proxy, Rule, Way
from ..rig import Rig
from ..run import Row

Blow = Callable[[Rig, Proxy], Awaitable[None]]


def _ruled(name: str, rule: Rule, seconds: float) -> Blow:
    """The rule holds both ways for a while."""

    async def blow(rig: Rig, proxy: Proxy) -> None:
        async with rig.fault(name):
            proxy.set(up=rule, down=rule)
            await rig.last(seconds * rig.random.uniform(0.8, 1.2))
            proxy.heal()

    return blow


def _half_closed(way: Way) -> Blow:
    async def blow(rig: Rig, proxy: Proxy) -> None:
        async with rig.fault(f"half-close {way}"):
            proxy.half_close(way)

    return blow


async def _reset(rig: Rig, proxy: Proxy) -> None:
    for way in rig.random.sample(("up", "down", "up", "down"), 4):
        async with rig.fault(f"RST {way}"):
            proxy.reset_mid_payload(way)
        await rig.last(rig.random.uniform(0.5, 1.5))


BLOWS: dict[str, Blow] = {
    "black hole": _ruled("black hole", STALL, 6),
    "half-close up": _half_closed("up"),
    "half-close down": _half_closed("down"),
    "RST mid-payload": _reset,
    "200 ms ± 100 ms": _ruled("200 ms ± 100 ms", Rule(delay=0.2, jitter=0.1), 4),
    "1 KB/s": _ruled("1 KB/s", Rule(rate=1024), 6),
}


async def scenario(rig: Rig) -> Evidence:
    """Traffic before, during and after."""
    server = await rig.server()
    await rig.prepare(server.url, ack_wait=8)
    proxy = rig.proxy(server)
    connect = {"ping_interval": "1s"}
    producer = rig.producer(proxy.url, connect=connect, within=20.0)
    # What is lost in a hole counts as a delivery, by the server: holes alone must not make dead letters here.
    consumer = {"concurrency": 8, "max_deliver": 50}
    worker = rig.worker(proxy.url, connect=connect, consumer=consumer, work=[0, 0.004])
    await rig.flowing(producer, worker)
    await rig.last(1)
    await rig.measure("baseline")
    for _ in range(5 if rig.long else 1):
        await BLOWS[rig.case](rig, proxy)
        await rig.resumed()
        await rig.last(2)
    await rig.settle()
    e = await rig.evidence(server.url)
    rig.violations += all_acked(e)
    return e


ROW = Row(5, "a proxy that stalls, half-closes, resets, delays, throttles", "LHRMX", scenario, cases=tuple(BLOWS))

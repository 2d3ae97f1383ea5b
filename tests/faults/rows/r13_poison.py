"""Row 13: a poison message, and a kill between its dead letter and its termination.

The worker's connection goes through a proxy that swallows whatever the worker says from the moment the server has
confirmed the dead letter; then the worker is killed. The next worker must not hand the message to its handler again,
and there must not be a second letter.
"""

from __future__ import annotations

import asyncio
import time

from nats.aio.msg import Msg

from ..checks import buried, tried
from ..evidence import Evidence
from ..frames import Frame
from ..proxy import STALL, Proxy, Way
from ..rig import GROUP, Rig
from ..run import Row
from ..witness import Witness

MESSAGES = 40
CONSUMER = {"max_deliver": 3, "backoff": {"initial": "100ms", "max": "1s"}, "prefetch": 10}


def _mute_after_the_letter(proxy: Proxy, letters: str) -> asyncio.Event:
    """From the server's word that a letter is stored, nothing the worker says gets through."""
    muted = asyncio.Event()

    def watch(way: Way, frame: Frame) -> None:
        if way == "down" and frame.is_pub_ack and letters.encode() in (frame.body or b"") and not muted.is_set():
            proxy.set(up=STALL)
            muted.set()

    proxy.watchers.append(watch)
    return muted


async def scenario(rig: Rig) -> Evidence:
    """First one worker through the proxy, killed; then another one."""
    server = await rig.server()
    await rig.prepare(server.url, ack_wait=1.5)
    proxy = rig.proxy(server)
    muted = _mute_after_the_letter(proxy, f"{rig.stream}_DLQ")
    poison = rig.random.randrange(5, MESSAGES)
    producer = rig.producer(server.url, rate=0, count=MESSAGES, marks={str(poison): "raise"})
    await rig.settled(producer, "finish")
    terminated: list[float] = []

    async def heard(_: Msg) -> None:
        terminated.append(time.monotonic())

    async with await Witness.of(server.url) as w:
        await w.subscribe(f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{rig.stream}.{GROUP}", heard)
        first = rig.worker(proxy.url, who="w1", consumer=CONSUMER)
        await rig.until(muted.is_set, 20, "the server's word on the dead letter")
        async with rig.fault("SIGKILL between letter and term"):
            first.kill()
            await proxy.sever()
        proxy.heal()
        letters = await w.messages(f"{rig.stream}_DLQ")
        rig.require(len(letters) == 1, "row", f"{len(letters)} dead letters after the kill, expected 1")
        rig.require(not terminated, "row", "the message was terminated although nothing of it got through")
        rig.worker(server.url, who="w2", consumer=CONSUMER)
        await rig.until(lambda: len(terminated) > 0, 20, "the termination of the poison message")
        await rig.settle(expect=lambda: True)
        after = await w.durable(rig.stream, GROUP)
    rig.require(len(terminated) == 1, "row", f"terminated {len(terminated)} times, expected once")
    left = (after.num_ack_pending or 0) + (after.num_pending or 0)
    rig.require(left == 0, "row", f"{left} messages are left to the group")
    e = await rig.evidence(server.url)
    rig.violations += tried(e, [f"p1-{poison}"], 3)
    rig.violations += buried(e, {f"p1-{poison}": "always fails"})
    rig.require(e.letters[0].t < terminated[0], "row", "the message was terminated before its letter was stored")
    return e


ROW = Row(13, "a poison message; kill between dead letter and term", "LDHX", scenario)

"""A producer as a process: sends numbered messages at a rate, and writes down what became of each.

Settings (JSON): `ledger`, `servers`, `topic`, `who`; `rate` a second (0: as fast as it goes), `count` (0: until told),
`keys`, `size`; `connect`, `producer` (settings of the bus, times as text), `password_file` (see common.py); `within`
(seconds until an outcome is due); `mode` (`send` or `nowait`); `marks` (what the handlers shall do with message n).
Every other message has no key, and none has if `keys` is 0.
Commands: `stop` (no more sends) and `finish` (only those of the count), then `settled` is written when all have ended;
`burst N RATE` (N more, and the same), `try JSON` (one more, to another topic, of another size or with headers, then
`tried`), `rest`, `close`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable
from contextlib import nullcontext
from typing import Any

import nats_eventbus as eb

from tests.faults.ledger import Writer
from tests.faults.workers.common import (
    commands,
    error_fields,
    opened,
    opening,
    rest,
    settings,
    tell_events,
    tell_metrics,
)


class Sender:
    """Sends, and follows every send to its end."""

    def __init__(self, given: dict[str, Any], ledger: Writer, bus: eb.Bus) -> None:
        self._given, self._ledger, self._bus = given, ledger, bus
        self._pending: set[asyncio.Task[None]] = set()
        self._unsettled: set[str] = set()
        more: dict[str, Any] = {"on_error": self._on_error} if given["mode"] == "nowait" else {}
        self._producer = bus.producer(given["topic"], **given["producer"], **more)
        self._last = 0
        self.waits = given["mode"] == "send"
        self.stopped = asyncio.Event()

    def _body(self, n: int, id_: str, size: int) -> bytes:
        do = self._given["marks"].get(str(n), "ok")
        body = f'{{"id":"{id_}","n":{n},"from":"{self._given["who"]}","do":"{do}","pad":"'
        return f'{body:x<{size - 2}}"}}'.encode()

    def _failed(self, id_: str, e: BaseException) -> None:
        how = "unknown" if isinstance(e, eb.PublishUnknown) else "rejected"
        if isinstance(e, eb.Backpressure):
            how = "refused"
        self._ledger.write(how, id=id_, **error_fields(e))

    def _on_error(self, e: Any) -> None:
        self._unsettled.discard(e.id)
        self._failed(e.id, e)

    async def _follow(self, id_: str, outcome: Awaitable[eb.PubAck | None]) -> None:
        try:
            ack = await outcome
        except Exception as e:
            self._failed(id_, e)
        else:
            assert ack
            self._ledger.write("acked", id=id_, stream=ack.stream, seq=ack.sequence, dup=ack.duplicate)

    def _one(self, n: int) -> None:
        id_, key = (
            f"{self._given['who']}-{n}",
            f"k{n // 2 % self._given['keys']}" if n % 2 and self._given["keys"] else None,
        )
        body = self._body(n, id_, self._given["size"])
        self._ledger.write("sent", id=id_, key=key, n=n, within=self._given["within"])
        if self.waits:
            task = asyncio.create_task(self._follow(id_, self._producer.send(body, key=key, id=id_)))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)
            return
        try:
            self._producer.send_nowait(body, key=key, id=id_)
            self._unsettled.add(id_)
        except eb.EventBusError as e:
            self._failed(id_, e)

    async def attempt(self, id: str, topic: str, size: int, headers: dict[str, str | int]) -> None:
        """One message out of the ordinary; a header given as a number is so long."""
        self._last += 1
        self._ledger.write("sent", id=id, n=self._last, within=self._given["within"])
        values = {name: "x" * value if isinstance(value, int) else value for name, value in headers.items()}
        try:
            producer = self._bus.producer(topic, **self._given["producer"])
            outcome = producer.send(self._body(self._last, id, size), id=id, headers=values)
        except eb.EventBusError as e:
            self._failed(id, e)
        else:
            await self._follow(id, outcome)
        self._ledger.write("tried")

    async def send(self, count: int, rate: float) -> None:
        """Sends so many (0: until stopped), at this rate (0: as fast as it goes)."""
        start, done = time.monotonic(), 0
        while not self.stopped.is_set() and not 0 < count <= done:
            done += 1
            self._last += 1
            self._one(self._last)
            wait = start + done / rate - time.monotonic() if rate else 0
            if wait > 0 or done % 100 == 0:
                await asyncio.sleep(max(wait, 0))

    async def settle(self) -> None:
        """Returns when every send has ended."""
        if not self.waits:
            try:
                await self._producer.flush()
            except eb.EventBusError as e:
                self._ledger.write("error", **error_fields(e))
            # Whatever failed was told with its id.
            for id_ in self._unsettled:
                self._ledger.write("acked", id=id_, dup=False)
            self._unsettled.clear()
        while self._pending:
            await asyncio.wait(self._pending)
        self._ledger.write("settled")


async def obey(sender: Sender, bus: eb.Bus, ledger: Writer, sending: asyncio.Task[None]) -> None:
    """What the rig asks for, until it asks for the end."""
    async for command in commands():
        if command.startswith("try "):
            await sender.attempt(**json.loads(command[4:]))
            continue
        match command.split():
            case ["stop" | "finish" as how]:
                if how == "stop":
                    sender.stopped.set()
                await sending
                await sender.settle()
            case ["burst", count, rate]:
                await sending
                with ledger.held() if sender.waits else nullcontext():
                    await sender.send(int(count), float(rate))
                    await sender.settle()
            case ["rest"]:
                rest(bus, ledger)
            case _:
                return


async def main() -> None:
    given = settings()
    ledger = opened("producer", given)
    try:
        bus = await opening(given)
    except eb.EventBusError as e:
        ledger.write("error", **error_fields(e))
        sys.exit(3)
    async with bus:
        tell_events(bus, ledger)
        telling = asyncio.create_task(tell_metrics(bus, ledger))
        sender = Sender(given, ledger, bus)
        sending = asyncio.create_task(sender.send(given["count"], given["rate"]))
        ledger.write("ready")
        await obey(sender, bus, ledger, sending)
        telling.cancel()
        ledger.write("metrics", counts=bus.metrics())
    ledger.write("left")


if __name__ == "__main__":
    asyncio.run(main())

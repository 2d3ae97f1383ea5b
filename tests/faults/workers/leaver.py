"""A worker that ends in the middle of its work, with everything live.

Settings (JSON): `ledger`, `servers`, `topic`, `group`, `who`; `after` (messages it handles first); `way`: `return`
(nothing is closed), `exit` (`sys.exit` in a handler), `daemon` (its loop runs on a thread that just stops).
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from typing import Any

import nats_eventbus as eb

from tests.faults.ledger import Writer
from tests.faults.workers.common import opened, settings

CODE = 7
"""What `exit` ends with."""


class Leaver:
    """One of everything live, and a handler that says when it is enough."""

    def __init__(self, given: dict[str, Any], ledger: Writer) -> None:
        self._given, self._ledger = given, ledger
        self._calls = itertools.count()
        self.enough = threading.Event()
        self._kept: list[Any] = []

    def handle(self, m: eb.Message) -> None:
        """Handles one message."""
        call = next(self._calls)
        body = m.json()
        start = {"key": m.key, "n": body["n"], "from": body["from"], "seq": m.sequence}
        self._ledger.write("start", call=call, id=m.id, attempt=m.attempt, **start)
        self._ledger.write("end", call=call, how="ok")
        if call + 1 == self._given["after"]:
            self.enough.set()

    async def live(self) -> None:
        """Works until there were enough messages, and closes nothing."""
        given = self._given
        bus = await eb.connect(given["servers"], jetstream=True, name=given["who"])
        consumer = await bus.consumer(given["topic"], group=given["group"], prefetch=50)
        producer, enough = bus.producer(f"{given['topic']}.leavers"), asyncio.Event()

        async def iterate() -> None:
            async for m in consumer:
                self.handle(m)
                m.ack()
                if self.enough.is_set():
                    enough.set()

        work = asyncio.create_task(iterate())
        sends = [producer.send(b"x") for _ in range(100)]
        self._kept += [bus, consumer, work, sends, bus.events()]
        await enough.wait()

    async def run(self) -> None:
        """The same by a registered handler, which then ends the program."""
        given = self._given
        async with eb.connect(given["servers"], jetstream=True, name=given["who"]) as bus:

            @bus.on(given["topic"], group=given["group"], prefetch=50, concurrency=4, max_deliver=1000)
            async def _(m: eb.Message) -> None:
                self.handle(m)
                await asyncio.sleep(0)
                if self.enough.is_set():
                    sys.exit(CODE)

            await bus.run()


def main() -> None:
    given = settings()
    leaver = Leaver(given, opened("worker", given))
    match given["way"]:
        case "exit":
            asyncio.run(leaver.run())
        case "daemon":
            threading.Thread(target=lambda: asyncio.run(leaver.live()), daemon=True).start()
            leaver.enough.wait(30)
        case _:
            asyncio.run(leaver.live())


if __name__ == "__main__":
    main()

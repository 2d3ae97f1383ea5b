"""Loops that are closed, and waits that are cancelled, with everything on its way.

Settings (JSON): `ledger`, `servers`, `topic`, `group`, `who`; `acts`: `producer` or `worker`, what it is.
Commands: `loops N` (a producer's: loop after loop, each closed with sends pending), `cancel N` (a producer's sends and
other waits; a worker's waits for messages, until it has handled N), then `settled` is written; `rest`, `close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import nats_eventbus as eb

from tests.faults.ledger import Writer
from tests.faults.workers.common import opened, rest, settings

EACH = 100
"""Sends of one loop; of every other one the outcome is waited for."""
WITHIN = 30.0


class Sends:
    """Numbered sends, written down, and their ends."""

    def __init__(self, given: dict[str, Any], ledger: Writer) -> None:
        self._who, self._ledger = given["who"], ledger
        self._numbers = itertools.count(1)

    def begin(self, producer: eb.Producer) -> tuple[str, Any]:
        """Begins one: its id, and what to await."""
        n = next(self._numbers)
        id_ = f"{self._who}-{n}"
        self._ledger.write("sent", id=id_, key=None, n=n, within=WITHIN)
        body = json.dumps({"id": id_, "n": n, "from": self._who, "do": "ok"})
        return id_, producer.send(body, id=id_)

    def acked(self, id_: str, ack: eb.PubAck | None = None) -> None:
        """The server has it."""
        told = {"stream": ack.stream, "seq": ack.sequence, "dup": ack.duplicate} if ack else {"dup": False}
        self._ledger.write("acked", id=id_, **told)


async def _sends(bus: eb.Bus, given: dict[str, Any], sends: Sends) -> list[str]:
    """Waits for half of them; the others are left to the loop's end. Their ids."""
    producer = bus.producer(given["topic"])
    begun = [sends.begin(producer) for _ in range(EACH)]
    for id_, outcome in begun[::2]:
        sends.acked(id_, await outcome)
    more = [sends.begin(producer) for _ in range(EACH)]
    await asyncio.sleep(0)
    return [id_ for id_, _ in (*begun[1::2], *more)]


def loops(count: int, given: dict[str, Any], bus: eb.Bus, sends: Sends) -> None:
    """Loop after loop, with a bus that outlives them and with one that is left with its loop."""

    async def with_the_bus() -> list[str]:
        return await _sends(bus, given, sends)

    async def with_its_own() -> None:
        await _sends(await eb.connect(given["servers"], jetstream=True, name="left"), given, sends)

    async def flush(pending: list[str]) -> None:
        # A producer's window is its own: what the loops left is the bus's, which says when nothing is under way.
        while bus.metrics()["sent"] > sum(bus.metrics()[how] for how in ("acked", "rejected", "unknown")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        if not bus.metrics()["rejected"] + bus.metrics()["unknown"]:
            for id_ in pending:
                sends.acked(id_)

    pending = list[str]()
    for _ in range(count):
        pending += asyncio.run(with_the_bus())
        asyncio.run(with_its_own())
    asyncio.run(flush(pending))


async def _cancel(work: list[Coroutine[Any, Any, Any]]) -> None:
    """Awaits all, for one turn of the loop; then none of them."""
    tasks = [asyncio.create_task(w) for w in work]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


async def _wait(outcome: Any) -> None:
    await outcome


def cancelled_sends(count: int, given: dict[str, Any], bus: eb.Bus, sends: Sends) -> None:
    """So many awaits begun and cancelled: sends, flushes, requests; what was sent is stored all the same."""

    async def all_() -> None:
        producer = bus.producer(given["topic"], max_in_flight=count)
        begun = [sends.begin(producer) for _ in range(count // 2)]
        silent = await bus.consumer(f"{given['topic']}.silent", group="silent")
        waits: list[Coroutine[Any, Any, Any]] = [_wait(outcome) for _, outcome in begun]
        waits += [_wait(producer.flush()) for _ in range(count // 4)]
        waits += [bus.request(f"{given['topic']}.ask", timeout=2) for _ in range(count // 8)]
        waits += [silent.fetch(1) for _ in range(count // 8)]
        await _cancel(waits)
        await silent.close()
        await producer.flush()
        for id_, _ in begun:
            sends.acked(id_)

    asyncio.run(all_())


def cancelled_waits(count: int, given: dict[str, Any], bus: eb.Bus, ledger: Writer) -> None:
    """Waits for messages, each cancelled after a turn, until so many messages were handled: none is lost by it."""

    async def all_() -> None:
        handled, waits = 0, 0
        calls = itertools.count()
        async with bus.consumer(given["topic"], group=given["group"], prefetch=200) as c:
            while handled < count or waits < count:
                for how in (anext(aiter(c)), c.fetch(3, timeout=1)):
                    task = asyncio.ensure_future(how)
                    for _ in range(waits % 3):
                        await asyncio.sleep(0)
                    task.cancel()
                    waits += 1
                    with contextlib.suppress(asyncio.CancelledError):
                        got = await task
                        for m in got if isinstance(got, list) else [got]:
                            body, call = m.json(), next(calls)
                            start = {"key": m.key, "n": body["n"], "from": body["from"], "seq": m.sequence}
                            ledger.write("start", call=call, id=m.id, attempt=m.attempt, **start)
                            ledger.write("end", call=call, how="ok")
                            m.ack()
                            handled += 1
                if waits % 64 == 0:
                    await asyncio.sleep(0.001)

    asyncio.run(all_())


def obey(given: dict[str, Any], bus: eb.Bus, ledger: Writer) -> None:
    """What the rig asks for, until it asks for the end."""
    sends = Sends(given, ledger)
    for line in sys.stdin:
        match line.split():
            case ["loops", count]:
                loops(int(count), given, bus, sends)
            case ["cancel", count] if given["acts"] == "producer":
                cancelled_sends(int(count), given, bus, sends)
            case ["cancel", count]:
                cancelled_waits(int(count), given, bus, ledger)
            case ["stop" | "finish"]:
                pass
            case ["rest"]:
                rest(bus, ledger)
                continue
            case _:
                break
        ledger.write("settled")


def main() -> None:
    given = settings()
    ledger = opened(given["acts"], given)

    async def open_() -> eb.Bus:
        return await eb.connect(given["servers"], jetstream=True, name=given["who"])

    # A worker is told to end by it, while it waits for a command.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    bus = asyncio.run(open_())
    ledger.write("metrics", counts=bus.metrics())
    ledger.write("ready")
    with contextlib.suppress(KeyboardInterrupt):
        obey(given, bus, ledger)
    asyncio.run(bus.close())
    ledger.write("left")


if __name__ == "__main__":
    main()

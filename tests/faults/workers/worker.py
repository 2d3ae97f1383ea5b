"""A worker as a process: handles messages as their bodies ask, and writes every handling down.

Settings (JSON): `ledger`, `servers`, `topic`, `group`, `who`; `connect`, `consumer` (settings of the bus, times as
text), `password_file` (see common.py); `work` (seconds a handling takes, `[least, most]`); `later` (the delay asked for
by messages that say `later`); `crash` (how those that say `crash` end the process: `exit` or `kill`); `leave` (how many
messages it takes in a loop before it leaves the loop and ends; 0: it registers a handler and stays).
Commands: `open JSON` (opens another consumer and closes it: `opened`, or the error), `health` (what the bus says of
itself), `rest`, `close`; SIGTERM drains.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from typing import Any

import nats_eventbus as eb

from tests.faults.ledger import Writer
from tests.faults.workers.child import fork
from tests.faults.workers.common import (
    commands,
    error_fields,
    opened,
    opening,
    rest,
    settings,
    tell_events,
    tell_health,
    tell_metrics,
)
from tests.faults.workers.inside import cancelled, crash


def recurse(depth: int = 0) -> int:
    """The nearest to a panic that Python code has: the stack runs out."""
    return recurse(depth + 1) + 1


class Work:
    """The handler."""

    def __init__(self, given: dict[str, Any], ledger: Writer) -> None:
        self._given, self._ledger = given, ledger
        self._calls = itertools.count()

    async def __call__(self, m: eb.Message) -> None:
        """Handles one message as its body asks."""
        body, call = m.json(), next(self._calls)
        start = {"key": m.key, "n": body["n"], "from": body["from"], "seq": m.sequence}
        start["failures"] = getattr(m, "failures", None)
        self._ledger.write("start", call=call, id=m.id or body["id"], attempt=m.attempt, **start)
        how = "raised"
        try:
            await self._do(m, body, m.attempt)
            how = "ok"
        except eb.Reject:
            how = "rejected"
            raise
        except eb.RetryAfter:
            how = "later"
            raise
        except asyncio.CancelledError:
            how = "cancelled"
            raise
        finally:
            self._ledger.write("end", call=call, how=how)

    async def _do(self, m: eb.Message, body: dict[str, Any], attempt: int) -> None:
        least, most = self._given["work"]
        if most:
            # Uneven, and the same in every run.
            await asyncio.sleep(least + (most - least) * (body["n"] * 7919 % 101) / 100)
        match body["do"]:
            case "raise":
                raise ValueError("this one always fails")
            case "once" if attempt == 1:
                raise ValueError("this one fails once")
            case "reject":
                raise eb.Reject("this one is refused")
            case "later" if attempt == 1:
                raise eb.RetryAfter(self._given["later"])
            case "panic":
                recurse()
            case "inside":
                await cancelled(body["n"])
            case "inside once" if attempt == 1:
                await cancelled(body["n"])
            case "crash":
                crash(self._given["crash"])
            case "hang":
                await asyncio.Event().wait()
            case "fork":
                await fork(m, self._given, self._ledger)
            case _:
                pass


async def open_another(bus: eb.Bus, ledger: Writer, topic: str, **settings: Any) -> None:
    """Opens a consumer beside the first one, and closes it."""
    ledger.write("opening")
    try:
        async with bus.consumer(topic, **settings):
            ledger.write("opened")
    except eb.EventBusError as e:
        ledger.write("error", **error_fields(e))


async def obey(bus: eb.Bus, ledger: Writer) -> None:
    """What the rig asks for."""
    async for command in commands():
        if command == "rest":
            rest(bus, ledger)
        elif command == "health":
            await tell_health(bus, ledger)
        elif command.startswith("open "):
            await open_another(bus, ledger, **json.loads(command[5:]))
        else:
            # Closing waits for the handlers, and so for itself if it were awaited here.
            await bus.close()
            return


async def leave(bus: eb.Bus, given: dict[str, Any], consumer: dict[str, Any], work: Work) -> None:
    """Takes messages in a loop, acks each, and leaves the loop after the last one."""
    taken = 0
    async with bus.consumer(given["topic"], group=given["group"], **consumer) as messages:
        async for m in messages:
            await work(m)
            m.ack()
            taken += 1
            if taken == given["leave"]:
                break


async def main() -> None:
    given = settings()
    ledger = opened("worker", given)
    code = 0
    try:
        bus = await opening(given)
    except eb.EventBusError as e:
        ledger.write("error", **error_fields(e))
        sys.exit(3)
    async with bus:
        tell_events(bus, ledger)
        consumer = dict(given["consumer"])
        if "backoff" in consumer:
            consumer["backoff"] = eb.Backoff(**consumer["backoff"])
        work = Work(given, ledger)
        if not given["leave"]:
            # What handlers raise is in the ledger already.
            bus.on(given["topic"], group=given["group"], on_error=lambda e, m: None, **consumer)(work)
        helpers = [asyncio.create_task(obey(bus, ledger)), asyncio.create_task(tell_metrics(bus, ledger))]
        ledger.write("ready")
        try:
            await (leave(bus, given, consumer, work) if given["leave"] else bus.run())
        except eb.EventBusError as e:
            ledger.write("error", **error_fields(e))
            code = 3
        helpers[1].cancel()
        ledger.write("metrics", counts=bus.metrics())
    ledger.write("left")
    sys.exit(code)


if __name__ == "__main__":
    asyncio.run(main())

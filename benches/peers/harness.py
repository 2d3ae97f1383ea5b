"""What the Python peers share: what to run, how it is measured, how it is told. The loops are each peer's own."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeAlias

CREDIT = 4096
"""A receiver tells how far it is every so many messages."""

clock = time.perf_counter


@dataclasses.dataclass
class Spec:
    """What to run; the runner fills in what a workload needs."""

    workload: str
    url: str
    mode: str = ""
    loop: str = "asyncio"
    subject: str = ""
    stream: str = ""
    durable: str = ""
    size: int = 128
    body: str = ""
    seconds: float = 1.0
    warmup: float = 0.2
    count: int = 0
    available: int = 0
    window: int = 1000
    batch: int = 500
    ids: bool = False
    keys: int = 0
    consumers: int = 0
    rate: float = 0.0
    workers: int = 0
    timer: float = 0.0
    cap: float = 0.0

    @property
    def payload(self) -> bytes:
        """The body to send."""
        return self.body.encode() or b"x" * self.size

    @property
    def credit(self) -> str:
        """Where a receiver tells how far it is."""
        return f"{self.subject}.credit"


Outcome: TypeAlias = dict[str, Any]
Work: TypeAlias = Callable[[Spec], Coroutine[Any, Any, Outcome]]


def ready() -> None:
    """Tells the runner that the other side may start."""
    print('{"ready":true}', flush=True)


def resident_kb() -> int:
    """Memory held now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


def peak_kb() -> int:
    """The most memory held since the program began; getrusage's would include the runner's, from before exec."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Of times, in microseconds."""
    seconds.sort()
    last = len(seconds) - 1
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
    return {name: seconds[round(last * share)] * 1e6 for name, share in shares.items()} | {"count": len(seconds)}


class Marks:
    """Where the measured interval begins and ends: bounded by time, or by a count, 5 % of it the warm-up."""

    def __init__(self, spec: Spec) -> None:
        self._warmup, self._seconds = spec.warmup, spec.seconds
        self._count, self._available, self._cap = spec.count, spec.available, spec.cap
        self._began = clock()
        self._from: tuple[float, float, int] | None = None
        self._to: tuple[float, float, int] | None = None

    @property
    def measuring(self) -> bool:
        """Whether the warm-up is over."""
        return self._from is not None

    def due(self, n: int) -> bool:
        """Whether the run is over, ``n`` messages after its start."""
        if self._from is None:
            if n >= self._count // 20 if self._count else clock() - self._began >= self._warmup:
                self.open(n)
            over = False
        else:
            over = n >= self._count if self._count else clock() - self._from[0] >= self._seconds
        late = self._cap and clock() - self._began > self._cap
        if over or late or (self._available and n >= self._available):
            self.close(n)
            return True
        return False

    def open(self, n: int) -> None:
        """The warm-up is over."""
        self._from = (clock(), time.process_time(), n)

    def close(self, n: int) -> None:
        """The end is now, once what was under way is settled."""
        self._to = (clock(), time.process_time(), n)

    def outcome(self, **more: Any) -> Outcome:
        """What was measured."""
        if self._from is None or self._to is None:
            raise RuntimeError("over before it was warm: too few messages")
        (t0, cpu0, n0), (t1, cpu1, n1) = self._from, self._to
        return {"seconds": t1 - t0, "messages": n1 - n0, "cpu": cpu1 - cpu0, "rss_kb": peak_kb(), "total": n1, **more}


async def bursts(
    spec: Spec, send: Callable[[int], Awaitable[None]], flush: Callable[[], Awaitable[Any]], chunk: int = 256
) -> Outcome:
    """Sends for the time of the warm-up, flushes; then for the measured time, and flushes."""
    n = 0

    async def burst(seconds: float) -> int:
        nonlocal n
        end = clock() + seconds
        while clock() < end:
            await send(chunk)
            n += chunk
        await flush()
        return n

    ready()
    marks = Marks(spec)
    marks.open(await burst(spec.warmup))
    marks.close(await burst(spec.seconds))
    return marks.outcome()


async def round_trips(spec: Spec, ask: Callable[[], Awaitable[Any]]) -> Outcome:
    """Asks one by one, and notes how long each took."""
    ready()
    marks = Marks(spec)
    times: list[float] = []
    n = 0
    while True:
        asked = clock()
        await ask()
        took = clock() - asked
        n += 1
        if marks.measuring:
            times.append(took)
        if marks.due(n):
            return marks.outcome(latency=percentiles(times))


async def nothing() -> None:
    """Where there is nothing to flush: every send was awaited."""


async def beside_timer(work: Coroutine[Any, Any, Outcome], every: float) -> Outcome:
    """The work, and how late a timer on the same loop is meanwhile."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            due = clock() + every
            await asyncio.sleep(every)
            late.append(max(clock() - due, 0.0))

    ticking = asyncio.create_task(tick())
    outcome = await work
    ticking.cancel()
    return {**outcome, "latency": percentiles(late)}


def run(workloads: Iterable[Work]) -> None:
    """Runs the workload named in the first argument's JSON and prints what it measured."""
    spec = Spec(**json.loads(sys.argv[1]))
    work = {w.__name__: w for w in workloads}[spec.workload](spec)
    if spec.timer:
        work = beside_timer(work, spec.timer)

    async def told() -> None:
        print(json.dumps(await work), flush=True)
        # At once: some clients abort when the interpreter ends with their tasks alive, and none of that is measured.
        os._exit(0)

    if spec.loop == "uvloop":
        import uvloop

        uvloop.run(told())
    else:
        asyncio.run(told())

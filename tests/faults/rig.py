"""One run: its servers, proxies and processes, the faults it suffers, and the evidence it leaves."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Literal

from tests.support import go_program

from .audit import first_after
from .children import Child, Language, Role
from .cluster import Cluster
from .evidence import Evidence, Fault, Stored, Usage, Violation
from .golang import GoWorker
from .proxy import Proxy
from .servers import Server, port
from .witness import Witness

GROUP = "workers"


class Skipped(Exception):
    """This machine cannot make the fault happen, and why."""


class Rig:
    """Made for one run, closed after it: every process it started is gone then."""

    def __init__(self, *, seed: int, long: bool, language: Language, case: str) -> None:
        self.random = Random(f"{seed} {case} {language}")
        self.long, self.case = long, case
        self.executable: str | None = None
        """The nats-server to run; none: the one that all tests run."""
        self.language: Language = language
        self.folder = Path(tempfile.mkdtemp(prefix="faults-"))
        self.topic = "faults.events"
        self.stream = "faults_events_STREAM"
        self.faults: list[Fault] = []
        self.facts: dict[str, str] = {}
        """What was measured, for the report."""
        self.violations: list[Violation] = []
        """Of what the row asks beyond the invariants."""
        self.access: dict[str, Any] = {}
        """How the other client signs in, where a server asks."""
        self.began = time.monotonic()
        self._usages: list[Usage] = []
        self._servers: list[Server | Cluster] = []
        self._proxies: list[Proxy] = []
        self.children: list[Child] = []

    # The world around the product.

    async def server(self, **settings: Any) -> Server:
        """A server, running."""
        server = Server(self.folder, executable=self.executable, **settings)
        self._servers.append(server)
        await server.start()
        return server

    async def cluster(self, *, cut: bool = False) -> Cluster:
        """Three servers, running; with `cut`, the last one can be isolated."""
        proxied = self._proxy if cut else None
        cluster = Cluster(self.folder, executable=self.executable, cut=proxied)
        self._servers.append(cluster)
        await cluster.start()
        return cluster

    def proxy(self, server: Server, **settings: Any) -> Proxy:
        """A proxy in front of a server."""
        return self._proxy(server.port, **settings)

    def _proxy(self, upstream: int, **settings: Any) -> Proxy:
        proxy = Proxy(port(), upstream, self.random, **settings)
        self._proxies.append(proxy)
        return proxy

    async def prepare(
        self, url: str, *, ack_wait: float = 2.0, max_ack_pending: int = 1000, durable: bool = True, **stream: Any
    ) -> None:
        """The stream and the group's durable, made by another client, with a short ack wait."""
        async with await self.witness(url) as w:
            await w.make_stream(self.stream, self.topic, **stream)
            if durable:
                await w.make_durable(self.stream, GROUP, self.topic, ack_wait=ack_wait, max_ack_pending=max_ack_pending)

    async def witness(self, url: str) -> Witness:
        """Another client, signed in."""
        return await Witness.of(url, **self.access)

    # The product's processes.

    def producer(self, url: str, *, who: str = "p1", **settings: Any) -> Child:
        """Starts a producer; see workers/producer.py for its settings."""
        within: float = settings.pop("within", 15.0)
        bus = {"delivery_timeout": f"{within}s", "ack_timeout": "1s", **settings.pop("producer", {})}
        common: dict[str, Any] = {
            "rate": 300,
            "count": 0,
            "keys": 20,
            "size": 256,
            "mode": "send",
            "marks": {},
            "connect": {},
        }
        return self._child("producer", url, who, {**common, "within": within, "producer": bus, **settings})

    def worker(self, url: str, *, who: str = "w1", **settings: Any) -> Child:
        """Starts a worker; see workers/worker.py for its settings."""
        common: dict[str, Any] = {
            "group": GROUP,
            "work": [0, 0],
            "later": "500ms",
            "crash": "exit",
            "leave": 0,
            "consumer": {},
            "connect": {},
        }
        return self._child("worker", url, who, {**common, **settings})

    async def go_program(self) -> Path:
        """The program of the platform's Go services, built.

        Raises:
            Skipped: Go is not installed.
        """
        program = await asyncio.to_thread(go_program.build, self.folder)
        if program is None:
            raise Skipped(go_program.MISSING)
        return program

    def go_worker(self, url: str, program: Path, *, who: str = "go", **flags: Any) -> GoWorker:
        """Starts a worker of the platform's Go services: a handling takes `work` seconds, the first `nak` fail."""
        child = GoWorker(program, self.folder, url, who, self.topic, GROUP, **flags)
        self.children.append(child)
        return child

    def program(self, role: Role, url: str, *, who: str, **settings: Any) -> Child:
        """Starts another program of workers/; see there for its settings."""
        return self._child(role, url, who, {"group": GROUP, **settings})

    def _child(self, role: Role, url: str, who: str, settings: dict[str, Any]) -> Child:
        given = {"topic": self.topic, **settings, "servers": url, "who": who}
        child = Child(self.language, role, self.folder, given)
        self.children.append(child)
        return child

    def require(self, holds: bool, what: str, text: str) -> None:
        """A violation unless it holds; `what` is the invariant's letter, or `row`."""
        if not holds:
            self.violations.append(Violation(what, text))

    # Time.

    @asynccontextmanager
    async def fault(self, name: str) -> AsyncGenerator[None]:
        """A fault, from here until the end of the block, where it is healed."""
        start = time.monotonic()
        yield
        self.faults.append(Fault(name, start, time.monotonic()))

    async def last(self, seconds: float) -> None:
        """A fault, or the traffic before it, lasts so long."""
        await asyncio.sleep(seconds)

    async def steady(self) -> None:
        """Between two faults, for as long as a client asks before it takes a connection for one that lasts.

        Thrown out before, it would not begin its waits anew; and what it has told just now it would not tell again.
        """
        await self.last(self.random.uniform(1.5, 2.5))

    async def until(self, condition: Callable[[], bool], within: float, what: str) -> None:
        """Waits for a condition.

        Raises:
            TimeoutError: it did not come true in time; what follows would prove nothing.
        """
        if not await self.comes(condition, within):
            states = "; ".join(c.state for c in self.children)
            raise TimeoutError(f"{what} did not come true within {within:.0f} s: {states}")

    async def comes(self, condition: Callable[[], bool], within: float) -> bool:
        """Whether a condition comes true in time: where it does not, the checker will say what it means."""
        until = time.monotonic() + within
        while not condition():
            if time.monotonic() > until:
                return False
            await asyncio.sleep(0.02)
        return True

    # Usual courses.

    async def flowing(self, producer: Child, worker: Child) -> None:
        """Waits until messages are acked and handled."""

        def flows() -> bool:
            return bool(producer.ledger.ended) and any(h.how == "ok" for h in worker.ledger.handlings)

        await self.until(flows, 20, "the first messages")

    async def settled(self, producer: Child, command: str, within: float = 30.0) -> None:
        """Tells a producer to send, and waits until all it sent has ended."""
        before = producer.ledger.marks.count("settled")
        producer.tell(command)
        await self.until(
            lambda: producer.ledger.marks.count("settled") > before, within, f"the outcomes of {command!r}"
        )

    async def resumed(self, within: float = 10.0) -> None:
        """Waits until what every producer sent after the last fault healed is acked, and some of it handled.

        R says if it took too long.
        """
        heal = self.faults[-1].heal

        def flows() -> bool:
            ledgers = [c.ledger for c in self.children]
            producers = [c.ledger for c in self.children if c.running and c.ledger.role == "producer"]
            return None not in first_after(ledgers, heal) and all(first_after([p], heal)[0] for p in producers)

        if await self.comes(flows, within):
            took = time.monotonic() - heal
            self.facts["slowest recovery"] = f"{max(took, float(self.facts.get('slowest recovery', '0 s')[:-2])):.2f} s"

    async def measure(self, when: Literal["baseline", "end"]) -> None:
        """Asks every child to rest, and writes down what it holds then."""
        for child in self.children:
            if not child.running:
                continue
            before = child.ledger.marks.count("rested")
            child.tell("rest")
            if await self.comes(lambda c=child, b=before: c.ledger.marks.count("rested") > b, 10) and child.running:
                self._usages.append(child.usage(when))

    async def ask_health(self, child: Child, within: float = 5.0) -> None:
        """Asks a worker what its bus says of itself; the answer is in its ledger, or none is."""
        before = len(child.ledger.healths)
        child.tell("health")
        await self.comes(lambda: len(child.ledger.healths) > before or not child.running, within)

    async def settle(self, within: float = 30.0, *, expect: Callable[[], bool] | None = None) -> None:
        """Producers stop and see their last outcomes; workers handle what is left; all rest, and end."""
        producers = [c for c in self.children if c.running and c.ledger.role == "producer"]
        for p in producers:
            p.tell("stop")
        for p in producers:
            await self.comes(lambda p=p: "settled" in p.ledger.marks or not p.running, within)
        await self.comes(expect or self._all_handled, within)
        # Acks of the last handlings are on their way.
        await self.comes(lambda: not any(c.unsettled for c in self.children if c.running), 3)
        await self.measure("end")
        await self.end()

    def _all_handled(self) -> bool:
        ledgers = [c.ledger for c in self.children]
        acked = {x.id for ledger in ledgers for x in ledger.ended if x.how == "acked"}
        return acked <= {h.id for ledger in ledgers for h in ledger.handlings if h.how == "ok"}

    async def end(self, within: float = 15.0) -> None:
        """Producers are closed, workers get SIGTERM; waits for their exits."""
        for child in self.children:
            if child.ledger.role == "worker":
                child.signal(signal.SIGTERM)
            else:
                child.tell("close")
        for child in self.children:
            await child.ended(within)

    async def evidence(self, url: str | None = None) -> Evidence:
        """What is left, read by another client; without an address, nothing that is stored."""
        stored: list[Stored] = []
        letters: list[Stored] = []
        if url:
            async with await self.witness(url) as w:
                stored, letters = await w.messages(self.stream), await w.messages(f"{self.stream}_DLQ")
        exits = [c.exit for c in self.children if c.exit]
        return Evidence([c.ledger for c in self.children], stored, letters, self.faults, self._usages, exits)

    async def close(self, *, keep: bool = False) -> None:
        """Ends every process by its pid, and removes the folder unless it is to be looked at."""
        for child in self.children:
            child.signal(signal.SIGKILL)
            await child.ended(5)
        for proxy in self._proxies:
            await proxy.close()
        for server in self._servers:
            server.kill()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

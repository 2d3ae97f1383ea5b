"""``make demo``: platform events from Python to Node and back, through a server that is killed half-way.

Starts an embedded nats-server in a temporary folder and the Node service beside it, publishes a generated
file of platform events, kills the server with SIGKILL when half of them are stored, waits until every event
is answered, and shows the books. One event is poisoned: after three attempts it is a dead letter, which is
then replayed. Exit code 1 if anything was lost, stored twice or not at all, or if an id changed on the way.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

import generate_events
import nats_eventbus as eb
from agent import ANSWERS, ANSWERS_STREAM, APP, INDEXERS, KNOWLEDGE, RESOURCE, Agent, read_events
from processes import Service, ServiceError, kill_server, node_service
from report import Bars, Row, facts, milliseconds, table

TICK = 0.1
"""Seconds between two looks at everything."""
PATIENCE = 60.0
"""Seconds without progress until what is missing counts as lost: twice the server's ack wait, after which it
delivers again what was on its way to a consumer when it was killed."""


@asynccontextmanager
async def collecting(agent: Agent) -> AsyncGenerator[list[asyncio.Task[None]], None]:
    """The agent's consumers, for as long as the block runs."""
    tasks = [asyncio.create_task(c) for c in (agent.collect_answers(), agent.collect_knowledge())]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Demo:
    """One run: a fresh server below ``folder``, and everything on it."""

    def __init__(self, folder: Path, events: int, seed: int, rate: float) -> None:
        self._file, self._folder = folder / "events.jsonl", folder / "server"
        self._total, self._rate = events, rate
        generate_events.write(self._file, events, seed)
        kinds = Counter(event["topic"] for event in read_events(self._file))
        self._to_answer = kinds[APP] + kinds[RESOURCE]
        self._took = 0.0
        self._down: float | None = None
        self._letters: list[eb.DeadLetter] = []
        self._problems: list[str] = []

    async def run(self) -> bool:
        """Runs it; whether all is well."""
        server = f"local://{self._folder}"
        async with eb.connect(server, jetstream=True, name="demo-agent") as bus:
            agent = Agent(bus)
            await agent.declare()
            async with collecting(agent) as collectors, node_service(server) as service:
                print(f"{self._total:,} events, {self._rate:,.0f} a second, nats-server {bus.server.version}")
                await self._cross(bus, agent, service, collectors)
                if code := await service.stop():
                    self._problems.append(f"the Node service ended with code {code}")
            rows = await self._books(bus, agent, service)
        self._check(rows, agent, service)
        self._report(rows, agent, service)
        return not self._problems

    async def _cross(self, bus: eb.Bus, agent: Agent, service: Service, collectors: list[asyncio.Task[None]]) -> None:
        """Publishes everything and waits for the answers; half-way the server is killed."""
        bars, before = Bars(), (0, 0, 0)
        started = changed = perf_counter()
        publishing = asyncio.create_task(agent.publish(read_events(self._file), self._rate))
        killing: asyncio.Task[float] | None = None
        replaying = asyncio.create_task(self._replay(bus, agent))
        try:
            while True:
                await asyncio.sleep(TICK)
                now = (agent.stored.total(), agent.answered, agent.handled)
                if now != before:
                    before, changed = now, perf_counter()
                if killing is None and now[0] >= self._total / 2:
                    killing = asyncio.create_task(kill_server(self._folder, bus))
                done = publishing.done() and killing is not None and killing.done() and agent.complete
                broken = not service.running or any(task.done() for task in collectors)
                over = done or broken or perf_counter() - changed > PATIENCE
                bars.draw(self._progress(agent), self._note(killing), final=over)
                if over:
                    break
            self._took = changed - started
            if broken:
                self._problems.append("the service, or a consumer of the agent, ended too early")
        finally:
            await self._end(publishing, killing, replaying)
        self._problems += [f"a consumer: {task.exception()!r}" for task in collectors if task.done()]

    async def _replay(self, bus: eb.Bus, agent: Agent) -> None:
        """Waits for the dead letter, mends what it failed on, and has it handled after all."""
        letters = bus.dead_letters(KNOWLEDGE, group=INDEXERS)
        while not self._letters:
            await asyncio.sleep(TICK)
            self._letters = [letter async for letter in letters] if bus.metrics()["dead_letters"] else []
        agent.repair()
        for letter in self._letters:
            await letter.replay()

    async def _end(
        self, publishing: asyncio.Task[None], killing: asyncio.Task[float] | None, replaying: asyncio.Task[None]
    ) -> None:
        for name, task in {"publishing": publishing, "replaying": replaying}.items():
            if task.cancel():
                self._problems.append(f"{name} did not end")
            elif error := task.exception():
                self._problems.append(f"{name}: {error!r}")
        if killing is None or killing.cancel():
            self._problems.append("the server was not killed, or did not come back")
        elif error := killing.exception():
            self._problems.append(f"the kill: {error!r}")
        else:
            self._down = killing.result()

    def _progress(self, agent: Agent) -> dict[str, tuple[int, int]]:
        return {
            "published": (agent.sent.total(), self._total),
            "stored": (agent.stored.total(), self._total),
            "answered": (agent.answered, self._to_answer),
        }

    @staticmethod
    def _note(killing: asyncio.Task[float] | None) -> str:
        if killing is None:
            return ""
        if not killing.done() or killing.exception():
            return "server killed"
        return f"server killed, and back after {killing.result():.2f} s"

    @staticmethod
    async def _books(bus: eb.Bus, agent: Agent, service: Service) -> list[Row]:
        """What was sent, what the server says it has stored, and what was handled."""
        stored = {info.name: info.messages for info in await bus.streams()}
        node = service.handled
        return [
            Row(APP, agent.sent[APP], stored.get(f"{APP}_STREAM", 0), node.get(APP, 0), "Node"),
            Row(RESOURCE, agent.sent[RESOURCE], stored.get(f"{RESOURCE}_STREAM", 0), node.get(RESOURCE, 0), "Node"),
            Row(KNOWLEDGE, agent.sent[KNOWLEDGE], stored.get(f"{KNOWLEDGE}_STREAM", 0), agent.handled, "Python"),
            Row(ANSWERS, sum(node.values()), stored.get(ANSWERS_STREAM, 0), agent.answered, "Python"),
        ]

    def _check(self, rows: list[Row], agent: Agent, service: Service) -> None:
        checks = {
            "events not sent": self._total - agent.sent.total(),
            "sends that failed": len(agent.failed),
            "sent and not stored exactly once": sum(abs(row.sent - row.stored) for row in rows),
            "events lost": agent.lost,
            "poisoned events that did not become dead letters": 1 - len(self._letters),
            "failed attempts beyond three": max(0, agent.failures - 3),
            "answers stored twice": agent.repeated,
            "answers that do not fit their event": agent.wrong,
            "ids not exact in Node": service.totals["wrong"],
        }
        self._problems += [f"{what}: {count:,}" for what, count in checks.items() if count]
        self._problems += [f"the first failure: {failure!r}" for failure in agent.failed[:1]]

    def _report(self, rows: list[Row], agent: Agent, service: Service) -> None:
        node = service.totals
        print(table(rows))
        shown = {
            "lost": f"{agent.lost:,}",
            "seconds down": "not measured" if self._down is None else f"{self._down:.2f}",
            "rate": f"{self._total / max(self._took, TICK):,.0f} events/s, {self._took:.1f} s in all",
            "latency": milliseconds(agent.latencies),
            "dead letter": ", ".join(
                f"{d.reason!r} after {d.attempts} attempts; replayed and handled" for d in self._letters
            ),
            "redelivered": f"{node['redelivered']:,} to Node, {agent.redelivered:,} to Python",
            "sent again": f"{agent.resent:,} by Python, {node['repeated']:,} by Node: same id, stored once",
        }
        print(facts(shown))
        print("\n".join(f"FAILED  {p}" for p in self._problems) or "OK  nothing lost, every id exact")


async def stoppable(demo: Demo) -> bool:
    """Runs it; SIGTERM ends it as Ctrl-C does, with the service and the server stopped."""
    run = asyncio.create_task(demo.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, run.cancel)
    return await run


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Platform events from Python to Node and back.")
    parser.add_argument("--events", type=int, default=20_000, help="how many (default 20000)")
    parser.add_argument("--short", action="store_true", help="5000 events, for CI")
    parser.add_argument("--seed", type=int, default=42, help="of the generated events (default 42)")
    parser.add_argument("--rate", type=float, default=2000, help="events sent a second (default 2000)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new folder to work in and keep")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="eventbus-demo-") as temporary:
        folder = Path(temporary)
        if args.keep:
            args.keep.mkdir(parents=True)
            folder = args.keep.resolve()
        demo = Demo(folder, 5000 if args.short else args.events, args.seed, args.rate)
        try:
            return 0 if asyncio.run(stoppable(demo)) else 1
        except ServiceError as e:
            parser.exit(1, f"{e}\n")
        except (KeyboardInterrupt, asyncio.CancelledError):
            return 130


if __name__ == "__main__":
    sys.exit(main())

"""The Python agent: publishes a file of platform events, and counts what comes back.

Project and resource events go to the Node service, which answers each on
``coze.workflow.{workflow_id}.indexed``; knowledge events go to a handler of this process, in order of their
knowledge base. One of them is poisoned: it fails until :meth:`Agent.repair`, and so becomes a dead letter.
Run alone, it needs the service running beside it, on the same server:

    python agent.py events.jsonl --server local://./data
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import nats_eventbus as eb

APP, RESOURCE, KNOWLEDGE = "opencoze_search_app", "opencoze_search_resource", "opencoze_knowledge"
INDEXERS = "cg_knowledge"
ANSWERS, ANSWERS_STREAM = "coze.workflow.*.indexed", "coze_workflow"
WORKFLOWS = 50
WINDOW = 4000
"""Sends under way at once; the producers themselves allow 1000 each."""
BURST = 50
"""Events between two looks at the clock, which keep the rate."""


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a file, one a line."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def document_id(body: dict[str, Any]) -> int:
    """The id of the document that a project or resource event is about."""
    project = body.get("project_document")
    return project["id"] if project else body["resource_document"]["res_id"]


class Agent:
    """Publishes events and keeps the books: what was sent, stored, answered, handled; how often, and when."""

    def __init__(self, bus: eb.Bus) -> None:
        self._bus = bus
        self._producers = {topic: bus.producer(topic) for topic in (APP, RESOURCE, KNOWLEDGE)}
        self._asked: dict[int, tuple[str, float]] = {}  # document id → operation, time sent
        self._answers: dict[int, int | None] = {}  # document id → sequence of its answer
        self._knowledge: set[str | None] = set()
        self._poison: str | None = None  # the id of the event that fails
        self._repaired = False
        self.sent: Counter[str] = Counter()
        self.stored: Counter[str] = Counter()
        self.failed: list[eb.EventBusError] = []
        self.latencies: list[float] = []  # seconds from the send of an event to the arrival of its answer
        self.wrong = 0  # answers that do not fit what was asked
        self.repeated = 0  # answers stored more than once
        self.resent = 0  # sends whose first ack was lost: sent again, and stored once
        self.redelivered = 0
        self.failures = 0  # attempts that failed

    @property
    def asked(self) -> int:
        """Events sent that are to be answered."""
        return len(self._asked)

    @property
    def answered(self) -> int:
        """Events whose answer has come."""
        return len(self._answers)

    @property
    def handled(self) -> int:
        """Knowledge events handled."""
        return len(self._knowledge)

    @property
    def lost(self) -> int:
        """Events sent that nobody has answered, or handled."""
        return self.asked - self.answered + self.sent[KNOWLEDGE] - self.handled

    @property
    def complete(self) -> bool:
        """Whether everything sent is answered, or handled."""
        return self.lost == 0

    def __repr__(self) -> str:
        sent, answered, wrong = self.sent.total(), self.answered, self.wrong
        return f"<Agent sent={sent} answered={answered} handled={self.handled} wrong={wrong}>"

    async def declare(self) -> None:
        """One stream for the topics of all workflows; the other streams are declared by their first user."""
        await self._bus.declare_stream(ANSWERS_STREAM, ["coze.workflow.>"])

    async def publish(self, events: Iterator[dict[str, Any]], rate: float) -> None:
        """Sends the events, ``rate`` a second, without waiting for one before sending the next."""
        started, window = perf_counter(), asyncio.Semaphore(WINDOW)
        async with asyncio.TaskGroup() as sends:
            for n, event in enumerate(events):
                if n % BURST == 0:
                    await asyncio.sleep(max(0.0, started + n / rate - perf_counter()))
                await window.acquire()
                sends.create_task(self._send(n, event)).add_done_callback(lambda _: window.release())

    async def _send(self, n: int, event: dict[str, Any]) -> None:
        topic, body = event["topic"], event["body"]
        if topic != KNOWLEDGE:
            self._asked[document_id(body)] = (body["op_type"], perf_counter())
        self.sent[topic] += 1
        try:
            ack = await self._producers[topic].send(body, key=event["key"], id=f"event-{n}")
        except eb.EventBusError as e:
            self.failed.append(e)
            return
        self.stored[topic] += 1
        self.resent += bool(ack and ack.duplicate)

    async def collect_answers(self) -> None:
        """Takes the service's answers, until cancelled."""
        async with self._bus.consumer(ANSWERS, group="cg_agent") as answers:
            async for m in answers:
                self._take_answer(m)
                m.ack()

    def _take_answer(self, m: eb.Message) -> None:
        answer = m.json()
        of = answer["id"]
        operation, sent_at = self._asked.get(of, ("", 0.0))
        if answer["op"] != operation or m.topic != f"coze.workflow.{of % WORKFLOWS}.indexed":
            self.wrong += 1
        elif of not in self._answers:
            self._answers[of] = m.sequence
            self.latencies.append(perf_counter() - sent_at)
        elif self._answers[of] == m.sequence:
            self.redelivered += 1
        else:
            self.repeated += 1

    async def collect_knowledge(self) -> None:
        """Handles the knowledge events, until cancelled: eight at a time, those of one key in order."""
        settings: dict[str, Any] = {"concurrency": 8, "order": "key", "backoff": eb.Backoff(initial=0.2)}
        async with self._bus.consumer(KNOWLEDGE, group=INDEXERS, **settings) as events:
            await events.run(self._index, on_error=self._failed)

    async def _index(self, m: eb.Message) -> None:
        self._poison = self._poison or m.id
        if m.id == self._poison and not self._repaired:
            raise ValueError("the document has no text")
        self.redelivered += m.id in self._knowledge
        self._knowledge.add(m.id)

    def _failed(self, error: Exception, m: eb.Message) -> None:
        self.failures += 1

    def repair(self) -> None:
        """From now on the poisoned event can be handled."""
        self._repaired = True


async def run(path: Path, server: str | None, rate: float) -> None:
    """Publishes the file and waits until all of it is answered and handled."""
    async with eb.connect(server, jetstream=True, name="demo-agent") as bus:
        agent = Agent(bus)
        await agent.declare()
        collecting = [asyncio.create_task(c) for c in (agent.collect_answers(), agent.collect_knowledge())]
        await agent.publish(read_events(path), rate)
        while not agent.complete:
            print(agent)
            await asyncio.sleep(1)
            agent.repair()
            await bus.dead_letters(KNOWLEDGE, group=INDEXERS).replay()
        for task in collecting:
            task.cancel()
        await asyncio.gather(*collecting, return_exceptions=True)
        print(agent)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Publishes a file of platform events and counts the answers.")
    parser.add_argument("events", type=Path, help="a file written by generate_events.py")
    parser.add_argument("--server", help="nats://… or local://DIR (default: NATS_SERVER_URL)")
    parser.add_argument("--rate", type=float, default=2000, help="events a second (default 2000)")
    args = parser.parse_args()
    asyncio.run(run(args.events, args.server, args.rate))


if __name__ == "__main__":
    main()

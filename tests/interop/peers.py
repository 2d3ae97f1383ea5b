"""The three kinds of producers and consumers, driven alike: Go and Node as processes, Python in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import difflib
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import nats
import nats_eventbus as eb

from .events import Batch

Kind: TypeAlias = Literal["go", "python", "node"]
KINDS: tuple[Kind, ...] = ("go", "python", "node")
HERE = Path(__file__).parent


async def until(condition: Callable[[], bool], seconds: float, what: str, now: Callable[[], Any] = str) -> None:
    """Waits for a condition, with a deadline; ``now`` tells how far it was when it passed."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what} {now()}"
        await asyncio.sleep(0.005)


@dataclasses.dataclass(frozen=True)
class Handled:
    """One delivery, as the worker that handled it saw it."""

    kind: Kind
    topic: str
    group: str
    event: dict[str, Any]
    headers: dict[str, str]
    key: str | None
    attempt: int
    settled: str


@dataclasses.dataclass(frozen=True)
class Place:
    """Where peers meet: a server, a topic, a group, a mode."""

    url: str
    topic: str
    group: str
    jetstream: bool
    go: Path
    """The Go program."""

    @property
    def stream(self) -> str:
        """The stream's name, by the platform's rule."""
        return f"{self.topic.replace('.', '_')}_STREAM"

    def command(self, kind: Kind, verb: str, **flags: int | bool) -> list[str]:
        """The command line of a Go or Node peer."""
        program = [str(self.go)] if kind == "go" else ["node", str(HERE / "worker.mjs")]
        out = [*program, verb, "--url", self.url, "--topic", self.topic, "--group", self.group]
        out += ["--jetstream"] * self.jetstream
        for name, value in flags.items():
            out += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        return out

    async def api(self, call: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One raw request to the JetStream API, by a client that is neither ours nor Go's."""
        data = json.dumps(body).encode() if body else b""
        client = await nats.connect(self.url)  # pyright: ignore[reportUnknownMemberType]
        try:
            return json.loads((await client.request(f"$JS.API.{call}", data)).data)
        finally:
            await client.close()

    async def configs(self) -> dict[str, str]:
        """What the server keeps of stream and durable: when they were made, and every setting, as text."""
        infos = {
            "stream": await self.api(f"STREAM.INFO.{self.stream}"),
            "durable": await self.api(f"CONSUMER.INFO.{self.stream}.{self.group}"),
        }
        made = {f"{name} created": info.get("created", "never") for name, info in infos.items()}
        return made | {name: json.dumps(info.get("config"), indent=1) for name, info in infos.items()}


class Peer:
    """A producer or consumer process that prints a JSON line per event."""

    def __init__(self, kind: Kind, process: asyncio.subprocess.Process) -> None:
        self.kind: Kind = kind
        self.ready = False
        self.handled: list[Handled] = []
        self.errors = ""
        self._process = process
        self._reading = asyncio.gather(self._lines(), self._complaints())

    async def _lines(self) -> None:
        assert self._process.stdout
        async for text in self._process.stdout:
            line = json.loads(text)
            if "ready" in line:
                self.ready = True
            else:
                line.setdefault("key", None)
                self.handled.append(Handled(self.kind, **line))

    async def _complaints(self) -> None:
        assert self._process.stderr
        self.errors = (await self._process.stderr.read()).decode()

    def alive(self) -> bool:
        """Whether it still runs."""
        return not self._reading.done()

    async def ended(self, seconds: float = 15) -> None:
        """Waits until it has ended by itself, without an error, and its last line was read."""
        await asyncio.wait_for(asyncio.shield(self._reading), seconds)
        code = await self._process.wait()
        assert (code, self.errors) == (0, ""), f"{self.kind} ended with {code}: {self.errors}"

    async def stop(self) -> None:
        """SIGTERM, then as :meth:`ended`."""
        if self._process.returncode is None:
            self._process.terminate()
        await self.ended()

    async def reap(self) -> None:
        """Leaves no process behind, whatever happened."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        await asyncio.gather(self._reading, return_exceptions=True)


def told(_error: BaseException, _message: eb.Message) -> None:
    """A handler that fails was told to: no warning."""


class PythonPeer:
    """A consumer of ours in this process; its handler runs as an application's would."""

    kind: Kind = "python"

    def __init__(self, consumer: eb.Consumer, count: int, nak: int) -> None:
        self.handled: list[Handled] = []
        self._consumer = consumer
        self._count = count
        self._nak = nak
        self._task = asyncio.create_task(consumer.run(self._handle, on_error=told))

    async def _handle(self, m: eb.Message) -> None:
        assert m.group is not None
        failing = len(self.handled) < self._nak
        settled = "nak" if failing else "ack"
        self.handled.append(Handled("python", m.topic, m.group, m.json(), m.headers, m.key, m.attempt, settled))
        if len(self.handled) == self._count:
            # Closed before this handler ends, so that no further delivery is handled.
            await self._consumer.close()
        if failing:
            raise RuntimeError("told to fail")

    def alive(self) -> bool:
        """Whether it still runs."""
        return not self._task.done()

    async def ended(self, seconds: float = 15) -> None:
        """Waits until it has ended by itself, without an error."""
        await asyncio.wait_for(asyncio.shield(self._task), seconds)

    async def stop(self) -> None:
        """Lets it finish what it handles."""
        await self._consumer.close()
        await self.ended()

    async def reap(self) -> None:
        """Leaves no task behind, whatever happened."""
        await self._consumer.close()
        await asyncio.gather(self._task, return_exceptions=True)


Worker: TypeAlias = Peer | PythonPeer


@contextlib.asynccontextmanager
async def process(kind: Kind, command: list[str]) -> AsyncGenerator[Peer]:
    """A process, gone by its id when the block is left."""
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, limit=1 << 20
    )
    peer = Peer(kind, started)
    try:
        yield peer
    finally:
        await peer.reap()


@contextlib.asynccontextmanager
async def consuming(kind: Kind, place: Place, **flags: int | bool) -> AsyncGenerator[Worker]:
    """A worker of a group that is subscribed.

    It ends by itself after ``count`` deliveries, and fails the first ``nak``; ``unsubscribe`` is Go's alone.
    """
    if kind == "python":
        async with eb.connect(place.url, jetstream=place.jetstream) as bus:
            consumer = await bus.consumer(place.topic, group=place.group, backoff=eb.Backoff(initial=0.05))
            worker = PythonPeer(consumer, flags.get("count", 0), flags.get("nak", 0))
            try:
                yield worker
            finally:
                await worker.reap()
        return
    async with process(kind, place.command(kind, "consume", **flags)) as peer:
        await until(lambda: peer.ready or not peer.alive(), 15, f"{kind} is ready")
        if not peer.ready:
            await peer.ended()
        yield peer


async def produce(kind: Kind, place: Place, batches: Iterable[Batch]) -> list[dict[str, Any]]:
    """Sends by a producer of that kind; gives its acks: stream, sequence (JetStream mode) and duplicate."""
    if kind == "python":
        return await _produce(place, batches)
    lines = "".join(json.dumps(dataclasses.asdict(b)) + "\n" for b in batches)
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(
        *place.command(kind, "produce"), stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        out, err = await asyncio.wait_for(started.communicate(lines.encode()), 30)
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()
    assert (started.returncode, err.decode()) == (0, ""), f"{kind} failed to produce: {err.decode()}"
    return [json.loads(line) for line in out.splitlines()]


async def _produce(place: Place, batches: Iterable[Batch]) -> list[dict[str, Any]]:
    acks: list[dict[str, Any]] = []
    async with eb.connect(place.url, jetstream=place.jetstream) as bus:
        producer = bus.producer(place.topic)
        for results in await asyncio.gather(*[producer.send_many(b.bodies, key=b.key) for b in batches]):
            for ack in results:
                if isinstance(ack, Exception):
                    raise ack
                known = {"stream": ack.stream, "sequence": ack.sequence} if ack else {}
                acks.append({**known, "duplicate": bool(ack and ack.duplicate)})
        await producer.flush()
    return acks


def difference(found: dict[str, str], wanted: dict[str, str]) -> str:
    """The lines in which configs differ; empty when they are the same to the byte."""
    lines = [
        line
        for name in wanted
        for line in difflib.unified_diff(
            wanted[name].split("\n"), found[name].split("\n"), name, name, n=0, lineterm=""
        )
    ]
    return "\n".join(lines)


async def declare(place: Place) -> None:
    """The stream and the durable, made by Go."""
    async with process("go", place.command("go", "declare")) as peer:
        await peer.ended()

"""The least rights of each role, as docs/security.md has them: they suffice, and each of them is needed.

The page itself is read: what it says is what is run. Each role runs in an account of its own, and once more for each of
its rights without that one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import nats_eventbus as eb
import pytest

from tests.support.clock import Clock
from tests.support.server import Server

from .test_bus import until

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
TOPIC, ASK = "coze.workflow.42.done", "coze.agent.7.ask"
STREAM, GROUP, INBOX = "coze_workflow_42_done_STREAM", "indexer", "_INBOX_indexer"


@dataclasses.dataclass(frozen=True)
class Right:
    """A line of a role: a subject that it may use, or that it may answer requests."""

    line: int
    subject: str

    def covers(self, subject: str | None) -> bool:
        """Whether a subject that was denied is this one's."""
        # The second word is a queue group. Answers go to the inbox of whoever asks.
        mine = "_INBOX.>" if self.subject == "allow_responses" else self.subject.split()[0]
        return subject is not None and re.fullmatch(re.escape(mine).replace(r"\.>", r"\..+"), subject) is not None


@dataclasses.dataclass(frozen=True)
class Role:
    """A role of the page, and its permissions there."""

    title: str
    lines: tuple[str, ...]

    @property
    def rights(self) -> list[Right]:
        """What each line allows."""
        found = [(n, re.search(r'^ +"([^"]+)"|^ +(allow_responses)', line)) for n, line in enumerate(self.lines)]
        return [Right(n, m[1] or m[2]) for n, m in found if m]

    def without(self, right: Right | None) -> str:
        """The permissions but for one."""
        text = "\n".join(line for n, line in enumerate(self.lines) if right is None or n != right.line)
        # An empty list allows everything, as the page says.
        return re.sub(r"allow: \[\s*\]", 'deny: ">"', text)


def roles() -> Iterator[Role]:
    """The roles of the page."""
    for title, block in re.findall(r"^### (.+?)\n(?:(?!^###).)*?```conf\n(.+?)```", PAGE.read_text(), re.M | re.S):
        yield Role(title, tuple(block.splitlines()))


ROLES = {role.title: role for role in roles()}
CASES = [(role, right) for role in ROLES.values() for right in [None, *role.rights]]
ACCOUNTS = {case: f"A{n}" for n, case in enumerate(CASES)}


def config() -> str:
    """A server with an account for each case: one user with the rights, one with all."""
    users = [
        f"{a} {{ jetstream: enabled, users: [ {{ user: {a}, password: right, {role.without(right)} }},"
        f" {{ user: {a}_admin, password: right }} ] }}"
        for (role, right), a in ACCOUNTS.items()
    ]
    return "jetstream { max_file_store: 10TB }\naccounts {\n" + "\n".join(users) + "\n}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("-js", config=config()) as running:
        yield running


class World:
    """What a role finds, made by somebody with all rights."""

    def __init__(self, admin: eb.Bus) -> None:
        self.admin = admin

    async def stream(self) -> None:
        """The topic's stream, with a message."""
        await self.admin.declare_stream(STREAM, [TOPIC])
        await self.admin.producer(TOPIC).send(b"x")

    async def durable(self) -> None:
        """The group's durable, too."""
        await self.stream()
        await (await self.admin.consumer(TOPIC, group=GROUP)).close()

    async def dead_letters(self) -> None:
        """Two dead letters of the group: the body of the first was too large to be kept."""
        await self.admin.declare_stream(STREAM, [TOPIC])
        for size in (self.admin.server.max_payload - 250, 1):
            await self.admin.producer(TOPIC).send(b"x" * size)
        before = self.admin.metrics()["dead_letters"]
        async with self.admin.consumer(TOPIC, group=GROUP) as c:
            await running(self.admin, c, reject, lambda: self.admin.metrics()["dead_letters"] == before + 2)


async def reject(m: eb.Message) -> None:
    """A handler that cannot handle anything."""
    raise eb.Reject(m.topic)


async def running(
    bus: eb.Bus, c: eb.Consumer, handler: Callable[[eb.Message], Awaitable[None]], done: Callable[[], bool]
) -> None:
    """Runs a handler until something is done, or the consumer has failed."""
    run = asyncio.create_task(c.run(handler))
    try:
        await until(lambda: run.done() or done())
        # A round trip: by now the server has refused what it does not allow.
        if any(consumer.error for consumer in (await bus.health()).consumers):
            await run
    finally:
        await c.close()
        await run


async def produce(bus: eb.Bus, _: World) -> None:
    p = bus.producer(TOPIC, declare=False)
    await p.send(b"x")
    await p.flush()


async def declare_and_produce(bus: eb.Bus, _: World) -> None:
    assert await bus.producer(TOPIC).send(b"x") is not None


async def consume(bus: eb.Bus, _: World) -> None:
    async with bus.consumer(TOPIC, group=GROUP, dead_letter=False, declare=False) as c:
        (m,) = await c.fetch(1, timeout=10)
        await m.ack_confirmed()


async def consume_with_dead_letters(bus: eb.Bus, _: World) -> None:
    seen: list[eb.Message] = []

    async def fails_first(m: eb.Message) -> None:
        seen.append(m)
        if len(seen) == 1:
            raise ValueError("recorded")
        raise eb.Reject("not now")

    async with bus.consumer(TOPIC, group=GROUP, backoff=eb.Backoff(initial=0.05, max=0.05)) as c:
        # Delivered before, so that the records are read.
        [m] = await c.fetch(1, timeout=10)
        m.nak()
        await running(bus, c, fails_first, lambda: bus.metrics()["dead_letters"] == 1)


async def consume_replays(bus: eb.Bus, world: World) -> None:
    seen: list[eb.Message] = []

    async def rejects_first(m: eb.Message) -> None:
        seen.append(m)
        if len(seen) == 1:
            raise ValueError("recorded")
        if len(seen) == 2:
            raise eb.Reject("not yet")

    async def replays() -> None:
        await until(lambda: bus.metrics()["dead_letters"] == 1)
        assert await world.admin.dead_letters(TOPIC, group=GROUP).replay() == 1

    async with bus.consumer(TOPIC, group=GROUP, backoff=eb.Backoff(initial=0.05, max=0.05)) as c:
        # Delivered before, so that the records are read.
        [m] = await c.fetch(1, timeout=10)
        m.nak()
        replaying = asyncio.create_task(replays())
        try:
            await running(bus, c, rejects_first, lambda: len(seen) == 3)
        finally:
            replaying.cancel()
            await asyncio.wait([replaying])


async def look_after_dead_letters(bus: eb.Bus, _: World) -> None:
    letters = bus.dead_letters(TOPIC, group=GROUP)
    large, small = [letter async for letter in letters]
    assert large.truncated
    await large.replay()
    await small.discard()
    assert await letters.replay() == 0


async def consume_core(bus: eb.Bus, world: World) -> None:
    async with bus.consumer(TOPIC, group=GROUP) as c:
        await world.admin.producer(TOPIC).send(b"x")
        assert len(await c.fetch(1, timeout=10)) == 1


async def ask(bus: eb.Bus, world: World) -> None:
    responder = await world.admin.respond(ASK, lambda m: b"y")
    assert (await bus.request(ASK, timeout=10)).body == b"y"
    await responder.close()


async def answer(bus: eb.Bus, world: World) -> None:
    responder = await bus.respond(ASK, lambda m: b"y")
    assert (await world.admin.request(ASK, timeout=10)).body == b"y"
    await responder.close()


async def list_streams(bus: eb.Bus, _: World) -> None:
    assert [s.name for s in await bus.streams()] == [STREAM]
    assert (await bus.stream(STREAM).info()).messages == 1


Act: TypeAlias = Callable[[eb.Bus, World], Awaitable[None]]
Before: TypeAlias = Callable[[World], Awaitable[None]]


async def nothing(_: World) -> None:
    """There is nothing to be found."""


ACTS: dict[str, tuple[bool, Before, Act]] = {
    "Producer, core mode": (False, nothing, produce),
    "Producer to a stream that exists": (True, World.stream, produce),
    "Producer that declares its stream": (True, nothing, declare_and_produce),
    "Consumer on a durable that exists": (True, World.durable, consume),
    "Consumer that makes its durable": (True, World.stream, consume),
    "Consumer with dead letters": (True, World.stream, consume_with_dead_letters),
    "Consumer of replayed dead letters": (True, World.stream, consume_replays),
    "A service that lists, replays and discards dead letters": (True, World.dead_letters, look_after_dead_letters),
    "Consumer, core mode": (False, nothing, consume_core),
    "Requester": (False, nothing, ask),
    "Responder": (False, nothing, answer),
    "Listing of streams": (True, World.stream, list_streams),
}


def waited_for(role: Role, right: Right) -> bool:
    """Whether somebody waits for what is denied: else it is told as an event alone, and the work goes on without."""
    of_letters = any(part in right.subject for part in ("_DLQ", "_ATTEMPTS", "dlq.", "attempts."))
    return right.subject != "allow_responses" and (not of_letters or ACTS[role.title][2] is look_after_dead_letters)


def test_every_role_of_the_page_is_run() -> None:
    """The page has the roles that are tested, and their names."""
    assert list(ROLES) == list(ACTS)
    assert all(role.rights for role in ROLES.values())
    for name in (TOPIC, STREAM, GROUP, INBOX):
        assert f"`{name}`" in PAGE.read_text() or f'"{name}"' in PAGE.read_text()


async def test_an_empty_list_allows_everything() -> None:
    """As the page says, and unlike what one might think: the rights of nobody are written as a denial."""
    for rights, allowed in (("allow: []", True), ('deny: ">"', False)):
        user = f"{{ user: app, password: right, permissions: {{ publish: {{ {rights} }} }} }}"
        with Server(config=f"authorization {{ users = [ {user} ] }}") as open_to:
            async with eb.connect(open_to.url, user="app", password="right") as bus:
                failed: list[eb.EventBusError] = []
                p = bus.producer(TOPIC, on_error=failed.append)
                await p.send(b"x")
                await p.flush()
                assert (failed == []) == allowed


@pytest.fixture
async def world(server: Server, role: Role, right: Right | None) -> AsyncIterator[World]:
    jetstream, before, _ = ACTS[role.title]
    user = f"{ACCOUNTS[role, right]}_admin"
    async with eb.connect(server.url, user=user, password="right", jetstream=jetstream) as admin:
        made = World(admin)
        await before(made)
        yield made


def named(case: object) -> str:
    return case.title if isinstance(case, Role) else case.subject if isinstance(case, Right) else "all"


async def denied(events: eb.Events, right: Right) -> eb.Event:
    """The event that tells of it."""
    async for event in events:
        if event.kind == "permission_denied" and right.covers(event.topic):
            return event
    raise AssertionError("closed before it was denied")


@pytest.mark.parametrize(("role", "right"), CASES, ids=named)
async def test_least_rights(server: Server, role: Role, right: Right | None, world: World) -> None:
    """A role's rights suffice; without one its work fails within a second of the denial, which names the subject."""
    jetstream, _, act = ACTS[role.title]
    connecting = eb.connect(
        server.url, user=ACCOUNTS[role, right], password="right", jetstream=jetstream, inbox_prefix=INBOX
    )
    if right is None:
        async with connecting as bus, asyncio.timeout(15):
            events = bus.events()
            await act(bus, world)
        assert [e async for e in events if e.kind == "permission_denied"] == [], "more is asked for than is needed"
        return
    if right.subject.startswith(INBOX):
        async with asyncio.timeout(10):
            with pytest.raises(eb.PermissionError, match="inbox_prefix") as caught:
                await connecting
            assert right.covers(caught.value.topic)
        return
    async with connecting as bus, asyncio.timeout(10):
        events = bus.events()
        work = asyncio.ensure_future(act(bus, world))
        told = await denied(events, right)
        if waited_for(role, right):
            clock = Clock()
            with pytest.raises(eb.PermissionError) as caught:
                await work
            # The act may close what it opened before it says so.
            assert clock.took() < 2
            assert str(told.topic) in str(caught.value)
        else:
            work.cancel()
            await asyncio.wait([work])

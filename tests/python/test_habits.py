"""Names that users of other clients try first: the error names ours."""

from __future__ import annotations

import asyncio
from typing import Any

import nats_eventbus as eb
import pytest
from nats_eventbus._habits import _OURS

NAMES = [(kind, name) for kind, names in _OURS.items() for name in names]


@pytest.fixture
async def had(bus: eb.Bus, topic: str) -> dict[type, Any]:
    """One of each kind."""
    p = bus.producer(topic)
    await p.send(b"x")
    c = await bus.consumer(topic, group="g", max_deliver=1)
    m = await anext(c)
    rejected = await bus.consumer(topic, group="h")

    async def reject(_: eb.Message) -> None:
        raise eb.Reject("no")

    def quiet(*_: Any) -> None: ...

    running = asyncio.create_task(rejected.run(reject, on_error=quiet))
    letters = bus.dead_letters(topic, group="h")
    letter: Any = None
    async with asyncio.timeout(10):
        while letter is None:
            letter = await anext(aiter(letters), None)
    await rejected.close()
    await running
    return {eb.Bus: bus, eb.Producer: p, eb.Consumer: c, eb.Message: m, eb.DeadLetter: letter}


async def test_names_of_other_clients_lead_to_ours(had: dict[type, Any]) -> None:
    """API: ``m.data``, ``nc.jetstream()`` and others are AttributeErrors that say what to use here."""
    for kind, name in NAMES:
        for of in (had[kind], kind):
            with pytest.raises(AttributeError, match=f"of nats-eventbus has no '{name}': use .") as caught:
                getattr(of, name)
            assert (caught.value.name, caught.value.obj) == (name, of)
        assert not hasattr(had[kind], name)
        assert getattr(had[kind], name, None) is None
        assert name not in dir(had[kind]), "it is not offered"
    with pytest.raises(AttributeError, match=r"use m\.body"):
        had[eb.Message].data  # noqa: B018
    with pytest.raises(AttributeError, match="jetstream=True"):
        had[eb.Bus].jetstream()


async def test_what_they_lead_to_is_there(had: dict[type, Any]) -> None:
    """API: each name that an error gives exists."""
    spelled = {
        "m": eb.Message,
        "bus": eb.Bus,
        "producer": eb.Producer,
        "consumer": eb.Consumer,
        "letter": eb.DeadLetter,
    }
    found = 0
    for names in _OURS.values():
        for ours in names.values():
            for word in ours.replace("(", " ").replace(",", " ").split():
                of, dot, name = word.partition(".")
                if dot and of in spelled and name:
                    this: Any = had[spelled[of]]
                    for part in name.rstrip(".").split("."):
                        this = getattr(this, part.rstrip(")"))
                    found += 1
    assert found > 30


async def test_what_nobody_has_is_an_attribute_error_as_ever(had: dict[type, Any]) -> None:
    """API: other names fail as on any object, and ours are offered."""
    for kind, name in ((eb.Message, "body"), (eb.Bus, "state"), (eb.Producer, "send"), (eb.Consumer, "fetch")):
        assert name in dir(had[kind])
        with pytest.raises(AttributeError):
            getattr(had[kind], name + "z")


async def test_settling_is_not_awaited(bus: eb.Bus, topic: str) -> None:
    """API: ``await m.ack()`` is an error that says what to do; what it returns is as good as a bool."""
    await bus.producer(topic).send_many([b"x"] * 4)
    async with bus.consumer(topic, group="g") as c:
        for verb, m in zip(("ack", "nak", "term", "in_progress"), await c.fetch(4), strict=True):
            settled: Any = getattr(m, verb)()
            assert settled
            assert settled == True  # noqa: E712
            assert settled != False  # noqa: E712
            assert (hash(settled), repr(settled), int(settled), sum([settled, settled])) == (1, "True", 1, 2)
            with pytest.raises(TypeError, match=r"leave out await; `await m\.ack_confirmed\(\)`"):
                await getattr(m, verb)()
            m.ack()
            again: Any = m.ack()
            assert not again
            assert again == False  # noqa: E712
            assert again is m.nak()


async def test_a_plain_handler_may_return_what_settling_returned(bus: eb.Bus, topic: str) -> None:
    """Consuming: ``lambda m: m.ack()`` is a handler that acks."""
    await bus.producer(topic).send(b"x")
    failed: list[Exception] = []
    called = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handle(m: eb.Message) -> bool:
        loop.call_soon_threadsafe(called.set)
        return m.ack()

    async with bus.consumer(topic, group="g") as c:
        running = asyncio.create_task(c.run(handle, on_error=lambda e, _: failed.append(e)))
        await asyncio.wait_for(called.wait(), 10)
    await running
    assert failed == []

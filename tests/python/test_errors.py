"""What errors tell, and what nothing ever tells; from Python. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server, free_port

from .test_connection import USERS
from .test_consuming import reaches
from .test_outcomes import make, silence, stored, stream_of

Failing = Callable[[eb.Bus, Server, str], Awaitable[Any]]


async def full(bus: eb.Bus, server: Server, topic: str) -> None:
    await make(server, topic, max_msgs=1, discard="new")
    await asyncio.gather(*[bus.producer(topic).send(b"x") for _ in range(2)])


async def sealed(bus: eb.Bus, server: Server, topic: str) -> None:
    await make(server, topic, max_msg_size=10)
    await bus.producer(topic).send(b"x" * 100)


async def refused(bus: eb.Bus, server: Server, topic: str) -> None:
    await make(server, topic)
    await make(server, topic, sealed=True)
    await bus.producer(topic).send(b"x")


async def wrong_sequence(bus: eb.Bus, _: Server, topic: str) -> None:
    await bus.producer(topic).send(b"x", expected_last_sequence=7)


async def bad_header(bus: eb.Bus, _: Server, topic: str) -> None:
    await bus.producer(topic).send(b"x", headers={"a:b": "c"})


async def unknown(bus: eb.Bus, server: Server, topic: str) -> None:
    await silence(server, topic)
    await bus.producer(topic, delivery_timeout=2).send(b"x")


async def other_settings(bus: eb.Bus, _: Server, topic: str) -> None:
    async with bus.consumer(topic, group="g"):
        await bus.consumer(topic, group="g", ack_wait=7)


async def gone(bus: eb.Bus, server: Server, topic: str) -> None:
    async with bus.consumer(topic, group="g") as c:
        await reaches(server, topic, num_waiting=1)
        await server.api(f"STREAM.DELETE.{stream_of(topic)}")
        await c.fetch(1, timeout=10)


async def settled_before(bus: eb.Bus, _: Server, topic: str) -> None:
    await bus.producer(topic).send(b"x")
    async with bus.consumer(topic, group="g") as c:
        [m] = await c.fetch(1)
        m.ack()
        await m.ack_confirmed()


async def no_stream(bus: eb.Bus, _: Server, topic: str) -> None:
    await bus.stream(stream_of(topic)).info()


async def nobody(bus: eb.Bus, _: Server, topic: str) -> None:
    await bus.request(topic, b"x")


async def late(bus: eb.Bus, _: Server, topic: str) -> None:
    async def answer(_: eb.Message) -> None:
        await asyncio.sleep(0.3)

    await bus.respond(topic, answer)
    await bus.request(topic, b"x", timeout=0.1)


async def failing(bus: eb.Bus, _: Server, topic: str) -> None:
    async def answer(_: eb.Message) -> None:
        raise ValueError("no such agent")

    await bus.respond(topic, answer)
    await bus.request(topic, b"x")


async def closed_producer(bus: eb.Bus, _: Server, topic: str) -> None:
    p = bus.producer(topic)
    p.close()
    await p.send(b"x")


async def closed_consumer(bus: eb.Bus, _: Server, topic: str) -> None:
    c = await bus.consumer(topic, group="g")
    await c.close()
    await c.fetch(1)


async def not_json(bus: eb.Bus, _: Server, topic: str) -> None:
    await bus.producer(topic).send(b"{")
    async with bus.consumer(topic, group="g") as c:
        (await c.fetch(1))[0].json()


async def letters_of_core(_: eb.Bus, server: Server, topic: str) -> None:
    async with eb.connect(server.url) as core:
        core.dead_letters(topic, group="g")


TOPIC, STREAM, GROUP, SERVER = "topic", "stream", "group", "server"
KINDS: list[tuple[Failing, type[eb.EventBusError], set[str]]] = [
    (full, eb.StreamFull, {TOPIC, STREAM, SERVER}),
    (sealed, eb.TooLarge, {TOPIC, STREAM, SERVER}),
    (refused, eb.PublishRejected, {TOPIC, STREAM, SERVER}),
    (wrong_sequence, eb.WrongSequence, {TOPIC, STREAM, SERVER}),
    (bad_header, eb.InvalidHeader, {TOPIC}),
    (unknown, eb.PublishUnknown, {TOPIC, STREAM}),
    (other_settings, eb.ConflictError, {TOPIC, STREAM, GROUP}),
    (gone, eb.NotFoundError, {TOPIC, STREAM, GROUP, SERVER}),
    (settled_before, eb.ConflictError, {TOPIC, GROUP}),
    (no_stream, eb.NotFoundError, {STREAM, SERVER}),
    (nobody, eb.NoResponders, {TOPIC}),
    (late, eb.Timeout, {TOPIC}),
    (failing, eb.RequestFailed, {TOPIC, SERVER}),
    (closed_producer, eb.ClosedError, {TOPIC}),
    (closed_consumer, eb.ClosedError, {TOPIC}),
    (not_json, eb.DecodeError, {TOPIC}),
    (letters_of_core, eb.ConfigError, {TOPIC}),
]


@pytest.mark.parametrize(("make_it", "kind", "names"), KINDS, ids=[k[0].__name__ for k in KINDS])
async def test_an_error_names_what_is_concerned(
    bus: eb.Bus, jetstream: Server, topic: str, make_it: Failing, kind: type[eb.EventBusError], names: set[str]
) -> None:
    """Errors: the kind says what to do; the topic, stream and group concerned are named, and the server's own text."""
    with pytest.raises(eb.EventBusError) as caught:
        await make_it(bus, jetstream, topic)
    e = caught.value
    assert type(e) is kind, repr(e)
    assert (e.code, e.retryable) == (kind.code, kind.retryable)
    want = {"topic": topic, "stream": stream_of(topic), "group": "g"}
    for name in names - {SERVER}:
        assert getattr(e, name) == want[name], f"{name} of {e}"
        assert str(e).count(f'{name} "{want[name]}"') == 1, f"{name} in {e}"
    if SERVER in names:
        assert e.server
        assert e.server in str(e)


async def test_room_can_be_made(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Errors: StreamFull is retryable: nothing was stored, and once there is room the same send succeeds."""
    with pytest.raises(eb.StreamFull) as caught:
        await full(bus, jetstream, topic)
    assert caught.value.retryable
    assert await stored(jetstream, topic) == 1
    await jetstream.api(f"STREAM.PURGE.{stream_of(topic)}")
    assert await bus.producer(topic).send(b"x")


def test_codes_are_stable() -> None:
    """Errors: one stable code per kind: programs compare them, so they are written down here once more."""
    tree = {
        eb.ConfigError: ("config", False, eb.EventBusError),
        eb.ConnectionError: ("connection", True, eb.EventBusError),
        eb.AuthError: ("connection.auth", False, eb.ConnectionError),
        eb.TlsError: ("connection.tls", False, eb.ConnectionError),
        eb.PermissionError: ("permission", False, eb.EventBusError),
        eb.NotFoundError: ("not_found", False, eb.EventBusError),
        eb.NotSupportedError: ("not_supported", False, eb.EventBusError),
        eb.ConflictError: ("conflict", False, eb.EventBusError),
        eb.PublishRejected: ("publish.rejected", False, eb.EventBusError),
        eb.TooLarge: ("publish.rejected.too_large", False, eb.PublishRejected),
        eb.WrongSequence: ("publish.rejected.wrong_sequence", False, eb.PublishRejected),
        eb.StreamFull: ("publish.rejected.stream_full", True, eb.PublishRejected),
        eb.NotSent: ("publish.rejected.not_sent", True, eb.PublishRejected),
        eb.InvalidTopic: ("publish.rejected.invalid_topic", False, eb.PublishRejected),
        eb.InvalidHeader: ("publish.rejected.invalid_header", False, eb.PublishRejected),
        eb.PublishUnknown: ("publish.unknown", True, eb.EventBusError),
        eb.Backpressure: ("backpressure", True, eb.EventBusError),
        eb.Timeout: ("timeout", True, eb.EventBusError),
        eb.NoResponders: ("request.no_responders", True, eb.EventBusError),
        eb.RequestFailed: ("request.failed", False, eb.EventBusError),
        eb.ClosedError: ("closed", False, eb.EventBusError),
        eb.DecodeError: ("decode", False, eb.EventBusError),
    }
    for kind, (code, retryable, parent) in tree.items():
        assert (kind.code, kind.retryable, kind.__mro__[1]) == (code, retryable, parent)


HUNTER = "hunter2-TopSecret"
SEED, JWT = USERS[0]["seed"], "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJVU0VSIn0.c2lnbmF0dXJl"
SECRETS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "password": ({"user": "app", "password": HUNTER}, [HUNTER]),
    "token": ({"token": HUNTER}, [HUNTER]),
    "nkey": ({"nkey": SEED}, [SEED]),
    "jwt": ({"jwt": JWT, "nkey": SEED}, [JWT, SEED]),
    "address": ({"servers": f"nats://app:{HUNTER}@HOST"}, [HUNTER]),
    "token in an address": ({"servers": f"nats://{HUNTER}@HOST"}, [HUNTER]),
    # Mistakes are told without what was mistaken.
    "half": ({"password": HUNTER}, [HUNTER]),
    "two ways": ({"token": HUNTER, "nkey": SEED}, [HUNTER, SEED]),
    "mistyped nkey": ({"nkey": SEED[:-2] + "AA"}, [SEED[:-2]]),
    "a number": ({"user": "app", "password": 82_736_455}, ["82736455"]),
    "a list": ({"token": [HUNTER]}, [HUNTER]),
    "comma in an address": ({"servers": f"nats://app:{HUNTER},x@HOST"}, [HUNTER]),
    "comma in a token in an address": ({"servers": f"nats://{HUNTER},x@HOST"}, [HUNTER]),
    "no user in an address": ({"servers": f"nats://:{HUNTER}@HOST"}, [HUNTER]),
    "local and other addresses": ({"servers": f"local:///nonexistent,nats://app:{HUNTER}@HOST"}, [HUNTER]),
    "at in an address": ({"servers": f"nats://app:{HUNTER}@x@HOST"}, [HUNTER]),
    "scheme of an address": ({"servers": f"http://app:{HUNTER}@HOST"}, [HUNTER]),
    "differing addresses": ({"servers": f"nats://app:{HUNTER}@HOST,nats://app:other-{HUNTER}@HOST"}, [HUNTER]),
}


async def told_by(settings: dict[str, Any]) -> list[str]:
    """All that can be seen of a bus, or of why there is none."""
    opening: Any = eb.connect(**settings)
    told = [repr(opening)]
    try:
        async with opening as bus:
            told += [repr(bus), bus._repr_html_(), repr(bus.server), repr(bus.metrics()), repr(bus._native)]
    except Exception as e:
        told += [str(e), repr(e), repr(vars(e)), *traceback.format_exception(e)]
    return told


@pytest.mark.parametrize("case", SECRETS)
async def test_no_secret_is_told(
    password: Server, core: Server, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], case: str
) -> None:
    """Errors: no secret in any message, repr or log line, at any level."""
    settings, secrets = SECRETS[case]
    with caplog.at_level(logging.NOTSET):
        # One that refuses, one that takes anyone, and one that is not there.
        for port in (password.port, core.port, free_port()):
            servers = settings.get("servers", "nats://HOST").replace("HOST", f"127.0.0.1:{port}")
            told = await told_by({**settings, "servers": servers})
            out, err = capfd.readouterr()
            assert len("".join(told)) > 20
            for text in (*told, out, err, caplog.text):
                assert not [s for s in secrets if s in text], f"told in {text}"


async def test_no_secret_of_a_file_is_told(password: Server, tmp_path: Path) -> None:
    """Errors: no secret in any message: a credentials file that is broken is named, not shown."""
    file = tmp_path / "svc.creds"
    for text in (SEED, f"-----BEGIN NATS USER JWT-----\n{JWT}\n", f"-----BEGIN USER NKEY SEED-----\n{SEED}\n-----"):
        file.write_text(text)
        with pytest.raises(eb.EventBusError) as caught:
            await eb.connect(password.url, credentials=file)
        assert str(file) in str(caught.value)
        assert SEED not in repr(caught.value)
        assert JWT not in repr(caught.value)

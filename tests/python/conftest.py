"""Servers shared by the tests of one run; each test uses topics of its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import nats_eventbus as eb
import pytest
import uvloop

from tests.support.server import PASSWORD, Server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def jetstream() -> Iterator[Server]:
    with Server("-js") as server:
        yield server


@pytest.fixture(scope="session")
def core() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def password() -> Iterator[Server]:
    with Server(config=PASSWORD) as server:
        yield server


@pytest.fixture
def topic() -> str:
    """A topic no other test uses."""
    return f"test.t{next(_numbers)}"


@pytest.fixture
async def bus(jetstream: Server) -> AsyncIterator[eb.Bus]:
    async with eb.connect(jetstream.url, jetstream=True) as b:
        yield b


@pytest.fixture
async def core_bus(core: Server) -> AsyncIterator[eb.Bus]:
    async with eb.connect(core.url, jetstream=False) as b:
        yield b


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Runs a coroutine on a fresh loop of each kind."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_(coroutine: Any) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(coroutine)

    return run_

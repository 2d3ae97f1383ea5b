"""The Go program, built once; a server of its own for each test, so that topics can have the platform's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.go_program import MISSING, build
from tests.support.server import Server

from .peers import Place


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program."""
    program = build(tmp_path_factory.mktemp("interop"))
    if program is None:
        pytest.skip(MISSING)
    return program


@pytest.fixture
def server() -> Iterator[Server]:
    """A fresh server with JetStream."""
    with Server("-js") as s:
        yield s


@pytest.fixture
def place(server: Server, go: Path) -> Callable[..., Place]:
    """Makes places on the fresh server."""

    def make(topic: str, group: str, *, jetstream: bool = True) -> Place:
        return Place(server.url, topic, group, jetstream, go)

    return make

"""The Go program, built once; a server of its own for each test, so that topics can have the platform's names."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.server import Server

from .peers import HERE, Place


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program."""
    compiler = shutil.which("go")
    if compiler is None:
        pytest.skip("go is not on PATH: install Go 1.21 or newer to test against the platform's client library")
    program = tmp_path_factory.mktemp("interop") / "interop"
    build = subprocess.run(
        [compiler, "build", "-buildvcs=false", "-o", str(program), "."],
        cwd=HERE / "go",
        env={**os.environ, "GOWORK": "off"},
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, f"go build failed:\n{build.stderr}"
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
